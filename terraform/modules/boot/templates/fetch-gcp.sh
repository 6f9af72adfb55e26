# shellcheck shell=bash
# GCP: the instance's service account reads one bucket prefix and two secrets.
metadata() {
    curl -sSf -m 5 --retry 5 -H 'Metadata-Flavor: Google' "http://metadata.google.internal/computeMetadata/v1/instance/$1"
}
token() { metadata service-accounts/default/token | jq -er .access_token; }
tools() { apt-get -q install -y --no-install-recommends jq; }
instance_id() { metadata id; }
# gs://BUCKET/OBJECT
fetch() {
    local bucket object
    bucket=$(printf %s "$1" | cut -d/ -f3)
    object=$(printf %s "$1" | cut -d/ -f4- | jq -sRr @uri)
    curl -sSf --retry 5 -o "$2" -H @<(printf 'Authorization: Bearer %s' "$(token)") \
        "https://storage.googleapis.com/storage/v1/b/$bucket/o/$object?alt=media"
}
# projects/PROJECT/secrets/NAME
secret() {
    curl -sSf --retry 5 -H @<(printf 'Authorization: Bearer %s' "$(token)") \
        "https://secretmanager.googleapis.com/v1/$1/versions/latest:access" | jq -er .payload.data | base64 -d
}
