# Godwit's one build file. `make help` says what there is.
#
# Variants: release (build/release, -O3; binaries also appear as build/godwit etc.) and asan (build/asan: ASan +
# UBSan, what the tests run on). Source lists are explicit; a new file is added to its folder's list below.

.DEFAULT_GOAL := all
SHELL := /bin/bash
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

RELEASE  := 0.1.0
VERSION  := $(RELEASE)+$(shell git describe --always --dirty=.dirty --exclude '*' 2>/dev/null || echo unknown)
CC       ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
WARN     := -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes \
            -Wvla -Wno-format-truncation -Wno-missing-field-initializers -Wpointer-arith -Wcast-align=strict -Wundef
CPPFLAGS := -I. -D_GNU_SOURCE
CFLAGS_release := -O3 -g -fstack-protector-strong -D_FORTIFY_SOURCE=2
CFLAGS_asan    := -DGW_FAILPOINTS -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
LDFLAGS_asan   := -fsanitize=address,undefined
CFLAGS_tsan    := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
LDFLAGS_tsan   := -fsanitize=thread
# libFuzzer is clang's; gcc's warnings have been had by then
CFLAGS_fuzz    := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
LDFLAGS_fuzz   := -fsanitize=fuzzer,address,undefined
build/fuzz/%: CC := clang
build/fuzz/%: CFLAGS = -std=gnu17 -ffp-contract=off -fno-strict-aliasing -pthread
# -ffp-contract=off: arithmetic is what the source says; an fma is written as one (exactness rule, DESIGN part 4)
CFLAGS   := -std=gnu17 -ffp-contract=off -fno-strict-aliasing -pthread $(WARN)
LIBS     := -lhiredis -levent_openssl -levent_pthreads -levent -lcjson -lssl -lcrypto -lpcre2-8 -lutf8proc -lcurl -lm -pthread

# ---- sources, a list per folder ------------------------------------------------------------------------------

BASE := base/err.c base/failpoint.c base/log.c base/clock.c base/buf.c base/utf8.c base/file.c base/json.c base/json_lex.c base/hash.c base/rng.c \
        base/args.c base/frame.c base/pool.c base/numa.c base/sockaddr.c base/secret.c base/id_map.c base/tls.c base/tls_verify.c base/socket.c
BASE += base/thread.c base/dl_calls.c
MIGRATE := migrate/request.c migrate/wire.c migrate/wire_session.c migrate/wire_request.c migrate/wire_layout.c
MIGRATE += migrate/weight_format.c migrate/kv_format.c migrate/profile.c migrate/block_name.c migrate/model_files.c migrate/fingerprint.c
MIGRATE += migrate/plan.c migrate/expert_layers.c
MIGRATE += migrate/record_seal.c
MIGRATE += migrate/redis_call.c migrate/redis_sentinel.c
MIGRATE += migrate/page_seal.c migrate/store.c migrate/store_io.c migrate/store_server.c migrate/store_redis.c migrate/redis_replies.c
MIGRATE += migrate/store_memory.c migrate/store_peer.c migrate/store_peer_server.c migrate/store_peer_wire.c
MIGRATE += migrate/shake.c migrate/geometry.c migrate/checksum.c migrate/page_codec.c migrate/peer_io.c migrate/peer_server.c migrate/peer_conn.c
MIGRATE += migrate/peer_line.c migrate/peer_fetch.c migrate/fetch_items.c migrate/fetch_stream.c migrate/pull_codec.c migrate/peer_conn_pull.c migrate/peer_pull.c
MIGRATE += migrate/cell_codec.c migrate/peer_conn_cells.c migrate/cell_line.c
KERNELS := kernels/share_tree.c kernels/coll_cut.c kernels/convert.c kernels/digest.c kernels/digest_model.c \
           kernels/cpu/device.c kernels/cpu/ops.c kernels/cpu/pack.c kernels/cpu/embed.c \
           kernels/cpu/rmsnorm_c.c kernels/cpu/rmsnorm_avx512.c kernels/cpu/matmul.c kernels/cpu/matmul_cut.c kernels/cpu/matmul_c.c \
           kernels/cpu/matmul_avx512.c kernels/cpu/matmul_avx512bf16.c kernels/cpu/rope_append.c \
           kernels/cpu/rope_append_c.c kernels/cpu/rope_append_avx512.c kernels/cpu/attention.c \
           kernels/cpu/attention_c.c kernels/cpu/attention_avx512.c kernels/cpu/silu_mul_c.c \
           kernels/cpu/silu_mul_avx512.c
KERNELS += kernels/device_memory.c kernels/device_graph.c
KERNELS += kernels/cpu/rmsnorm_avx2.c kernels/cpu/matmul_avx2.c kernels/cpu/rope_append_avx2.c kernels/cpu/attention_avx2.c \
           kernels/cpu/silu_mul_avx2.c
KERNELS += kernels/cpu/coll.c kernels/cpu/coll_tcp.c kernels/cpu/coll_shm.c kernels/cpu/coll_frame.c kernels/cpu/coll_in.c kernels/cpu/coll_out.c \
           kernels/cpu/coll_sum.c
KERNELS += kernels/cpu/pack_int8.c kernels/cpu/quantize_c.c kernels/cpu/quantize_avx2.c kernels/cpu/quantize_avx512.c \
           kernels/cpu/matmul_int8.c kernels/cpu/matmul_int8_c.c kernels/cpu/matmul_int8_avx2.c kernels/cpu/matmul_int8_avx512vnni.c \
           kernels/cpu/matmul_int8_amx.c kernels/cpu/pack_fp8.c
KERNELS += kernels/cpu/matmul_tiled.c kernels/cpu/matmul_bf16amx_c.c kernels/cpu/matmul_bf16amx_avx2.c \
           kernels/cpu/matmul_bf16amx_avx512.c kernels/cpu/matmul_bf16amx_amx.c
KERNELS += kernels/cpu/route.c kernels/cpu/gather.c kernels/cpu/scatter_add.c kernels/cpu/tree_add.c
KERNELS += kernels/pick.c kernels/cpu/pick.c kernels/cpu/pick_c.c kernels/cpu/pick_avx2.c kernels/cpu/pick_avx512.c
# Collectives over device memory: no header of CUDA or NCCL, both are loaded when they are there
KERNELS += kernels/cuda/nccl_api.c kernels/cuda/nccl_end.c kernels/cuda/coll_tag.c kernels/cuda/coll_device.c kernels/cuda/coll_nccl.c \
           kernels/cuda/coll_staged.c kernels/cuda/coll_join.c kernels/cuda/stream_cuda.c
KERNELS += kernels/cuda/copy_ring.c
WORKER := worker/link.c worker/link_queue.c worker/safetensors.c worker/model_config.c worker/rope_config.c worker/cells.c worker/model.c worker/cell_store.c worker/weights.c worker/rope.c \
          worker/page_pool.c worker/page_dir.c worker/page_offload.c worker/shelf.c worker/shelf_slots.c worker/fetcher.c worker/copier.c worker/forecast.c worker/refill.c worker/block_manager.c worker/wish.c worker/part.c worker/cut.c worker/candidates.c worker/sampler.c \
          worker/job.c worker/step_pace.c worker/scheduler.c worker/place.c worker/answers.c worker/forward.c worker/step_desc.c worker/rank.c worker/engine.c worker/engine_jobs.c \
          worker/options.c worker/prove.c worker/stop_signals.c worker/member.c worker/meeting.c worker/resync.c worker/serve.c worker/serve_requests.c worker/serve_progress.c
WORKER += worker/moe.c
WORKER += worker/mesh.c worker/mesh_io.c worker/probe.c
WORKER += worker/device.c
WORKER += worker/traffic.c
WORKER += worker/stores.c worker/stores_has.c worker/checkpoint.c worker/store_fetch.c
WORKER += worker/cell_part.c worker/cell_race.c worker/cell_source.c worker/cell_load.c
CORE := controller/core/core.c controller/core/core_actions.c controller/core/core_workers.c \
        controller/core/core_requests.c controller/core/core_tokens.c controller/core/core_route.c \
        controller/core/core_moves.c controller/core/core_notices.c controller/core/core_log.c \
        controller/core/core_pipelines.c controller/core/core_apart.c controller/core/core_plan.c controller/core/core_transitions.c \
        controller/core/core_views.c controller/core/core_holders.c controller/core/core_warm.c
CORE += controller/core/core_restore.c controller/core/core_stores.c
CORE += controller/core/core_sources.c controller/core/core_zones.c
PLAN := controller/plan/cost.c controller/plan/shape.c controller/plan/shape_deal.c \
        controller/plan/shape_ways.c controller/plan/shape_cuts.c controller/plan/shape_front.c \
        controller/plan/shape_polish.c controller/plan/classes.c controller/plan/search.c controller/plan/search_small.c \
        controller/plan/search_lists.c controller/plan/search_solution.c controller/plan/search_seeds.c \
        controller/plan/search_moves.c controller/plan/assign.c controller/plan/mapping.c controller/plan/holders.c \
        controller/plan/move.c controller/plan/wish.c controller/plan/planner.c
TEXT := controller/text/tokenizer.c controller/text/tokenizer_load.c controller/text/tokenizer_stages.c \
        controller/text/tokenizer_config.c controller/text/vocab.c controller/text/byte_alphabet.c controller/text/bpe.c \
        controller/text/added.c controller/text/onig.c controller/text/split.c controller/text/nfc.c \
        controller/text/detok.c controller/text/stops.c controller/text/utext.c controller/text/arena.c \
        controller/text/chat_template.c controller/text/jinja_lex.c controller/text/jinja_parse.c \
        controller/text/jinja_parse_expr.c controller/text/jinja_run.c controller/text/jinja_value.c \
        controller/text/jinja_print.c controller/text/jinja_json.c controller/text/jinja_eval.c \
        controller/text/jinja_exec.c controller/text/jinja_ops.c controller/text/jinja_access.c \
        controller/text/jinja_filters.c controller/text/jinja_list_filters.c controller/text/jinja_methods.c \
        controller/text/jinja_tests.c controller/text/jinja_functions.c
FRONT := controller/front/http_parser.c controller/front/http_head.c controller/front/http_body.c controller/front/http_conn.c controller/front/http_conn_send.c \
         controller/front/http_server.c controller/front/api_keys.c controller/front/openai_error.c \
         controller/front/openai_fields.c controller/front/openai_prompt.c controller/front/openai_sampling.c \
         controller/front/openai_request.c controller/front/logprobs.c controller/front/choice.c \
         controller/front/openai_response.c controller/front/completion.c controller/front/completion_send.c \
         controller/front/text_routes.c controller/front/info_routes.c controller/front/admin.c controller/front/admin_layout.c \
         controller/front/metrics.c controller/front/timeline.c controller/front/front.c
FRONT += controller/front/stream_position.c controller/front/stream_log.c controller/front/stream_codec.c \
         controller/front/completion_stream.c controller/front/completion_resume.c
# A fake core and an HTTP client, for the front's tests
FRONT_TEST := tests/lib/fake_core.c tests/lib/http_client.c tests/lib/front_fixture.c
# A device made of threads, for the tests of collectives over device memory
COLL_DEVICE_TEST := tests/lib/host_stream.c
CONTROLLER := controller/worker_links.c controller/hub.c controller/model_info.c controller/options.c
CONTROLLER += controller/journal_redis.c controller/program_front.c controller/program_journal.c controller/program_handover.c
# What it has to do with its cloud
CAPACITY := controller/capacity_options.c controller/capacity_wish.c controller/capacity_churn.c controller/capacity_fleet.c \
            controller/capacity_intent.c controller/capacity_need.c controller/capacity_prices.c controller/capacity_carry.c \
            controller/price_file.c controller/capacity.c controller/notice_queue.c controller/clouds.c
CONTROLLER += controller/handover_wire.c controller/handover_give.c controller/handover_take.c
CONTROLLER += controller/journal.c controller/journal_table.c controller/journal_segment.c controller/journal_file.c
# What the controller and the operator's tool know of layouts
LAYOUT := controller/layout_model.c controller/layout_spec.c controller/layout_load.c controller/layout_fleet.c \
          controller/layout_place.c controller/layout_make.c controller/layout_job.c controller/layout.c \
          controller/layout_rates.c controller/layout_apart.c
SIM := tests/sim/main_sim.c tests/sim/sim_world.c tests/sim/sim_queue.c tests/sim/sim_model.c tests/sim/sim_net.c \
       tests/sim/sim_worker.c tests/sim/sim_ranks.c tests/sim/sim_jobs.c tests/sim/sim_plan.c \
       tests/sim/sim_planner.c tests/sim/sim_front.c tests/sim/sim_check.c tests/sim/sim_pipes.c \
       tests/sim/sim_faults.c tests/sim/sim_kv.c tests/sim/sim_moves.c tests/sim/sim_stores.c tests/sim/sim_sources.c
CLI := controller/cli/up.c controller/cli/up_options.c controller/cli/up_controller.c controller/cli/up_worker.c controller/cli/settled.c controller/cli/fleet.c controller/cli/procs.c controller/cli/local_redis.c
CLI += controller/cli/admin_client.c controller/cli/cluster_view.c controller/cli/canvas.c controller/cli/cluster_picture.c \
       controller/cli/terminal.c controller/cli/signals.c controller/cli/status_cmd.c controller/cli/top_cmd.c controller/cli/drain_cmd.c
CLI += controller/cli/cloud_cmd.c controller/cli/sim_groups.c controller/cli/sim_trace.c
CLI += controller/cli/up_cloud.c controller/cli/cloud_ask.c controller/cli/sim_api.c controller/cli/sim_cloud.c controller/cli/sim_notices.c
CLI += controller/cli/plan_cmd.c controller/cli/plan_files.c controller/cli/plan_fleet_file.c controller/cli/plan_json_in.c \
       controller/cli/plan_report.c controller/cli/plan_text.c controller/cli/plan_picture.c controller/cli/plan_json_out.c

CLOUD := cloud/web.c cloud/times.c cloud/source.c cloud/source_aws.c cloud/source_gcp.c cloud/source_azure.c \
         cloud/source_sim.c cloud/watch.c cloud/report.c cloud/detect.c cloud/watch_options.c \
         cloud/cloud.c cloud/xml.c cloud/auth_aws.c cloud/calls.c cloud/aws_write.c cloud/aws_read.c \
         cloud/aws_event.c cloud/queue.c cloud/auth_token.c cloud/answer.c cloud/gcp.c cloud/azure.c cloud/azure_prices.c \
         cloud/capacity.c cloud/sim.c cloud/auth_none.c cloud/backend.c
# godwit-watch is on every instance for as long as that lives: it links what it needs, and no more.
WATCH_LIBS := -levent_core -lcjson -lcurl -lcrypto -lm -pthread
# What else the calls to clouds' APIs need: AWS answers in XML.
CLOUD_LIBS := $(WATCH_LIBS) -levent_extra -levent_pthreads -lexpat
$(foreach v,release asan tsan,build/$(v)/tests/unit/test_cloud_%): LIBS = $(CLOUD_LIBS)
$(foreach v,release asan tsan,build/$(v)/tests/unit/test_capacity_%): LIBS += -lexpat

# Sanitized kernels at -O1 are a tenth as fast as the release build's; -O2 gives 1.6 times for little compile time.
build/asan/kernels/%.o: CFLAGS_asan := $(patsubst -O1,-O2,$(CFLAGS_asan))

# Kernels for one instruction set: the file's suffix names the flags.
$(foreach v,release asan tsan fuzz,build/$(v)/%_avx512.o): ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
$(foreach v,release asan tsan fuzz,build/$(v)/%_avx512bf16.o): ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mavx512bf16
$(foreach v,release asan tsan fuzz,build/$(v)/%_avx512vnni.o): ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mavx512vnni
$(foreach v,release asan tsan fuzz,build/$(v)/%_amx.o): ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mamx-tile -mamx-int8
$(foreach v,release asan tsan fuzz,build/$(v)/%_avx2.o): ISA := -mavx2 -mfma

# ---- unit tests, a list per set of libraries that they link ----------------------------------------------------

UNIT_BASE := test_base_frame test_base_buf test_base_json test_base_args test_base_pool test_base_utf8 test_base_hash \
             test_base_file test_base_thread test_base_numa test_base_sockaddr test_base_err test_base_log test_base_rng test_base_id_map
UNIT_BASE += test_base_tls test_base_socket
UNIT_MIGRATE := test_request test_wire test_wire_wrong test_block_name test_fingerprint
UNIT_MIGRATE += test_geometry test_page_codec test_peer test_peer_server test_peer_wrong test_peer_pull test_peer_pull_wrong test_rate test_peer_zombie test_pull_mix
UNIT_MIGRATE += test_cell_line
UNIT_MIGRATE += test_page_seal test_store_redis test_redis_tls test_redis_sentinel test_store_faults test_store_peer test_store_memory test_store_mix
UNIT_KERNELS := test_kernels_vmath test_kernels_device test_kernels_matmul test_kernels_rows test_kernels_attention test_kernels_digest test_kernels_pick
UNIT_KERNELS += test_kernels_moe test_kernels_int8 test_kernels_fp8 test_kernels_kv8 test_kernels_bf16amx
UNIT_KERNELS += test_share_tree test_coll test_coll_frames test_coll_failures
UNIT_COLL_DEVICE := test_coll_nccl test_coll_nccl_failures test_coll_staged test_stream_cuda
UNIT_WORKER := test_engine_golden test_engine_exact test_model_config test_safetensors test_sampler \
               test_block_manager test_rope test_engine_exact_branches test_engine_reference test_step_pace test_scheduler \
               test_engine test_worker_options test_worker_prove test_ranks test_parts test_step_desc test_place test_cell_store test_member
UNIT_WORKER += test_models_exact test_profiles_exact
UNIT_WORKER += test_mesh test_mesh_tls test_mesh_strangers test_probe test_moves test_shelf test_forecast test_fetcher test_refill
UNIT_WORKER += test_stores test_checkpoint test_traffic test_page_offload
UNIT_WORKER += test_cell_race test_cell_load
# Worker and tokenizer in one program; on the release build alone: sanitized it takes half a minute, and what it runs is run elsewhere
UNIT_LOSS := test_int8_loss
UNIT_CORE := test_core_requests test_core_workers test_core_moves test_core_route test_core_pipelines \
             test_core_plan test_core_transitions test_core_holders test_core_warm
UNIT_CORE += test_core_restore test_core_stores test_core_sources test_core_zones
UNIT_PLAN := test_plan_search test_plan_rules test_plan_assign test_plan_move test_plan_planner
UNIT_TEXT := test_tokenizer test_tokenizer_files test_detok test_stops test_chat_template test_chat_template_bounds
UNIT_FRONT := test_http_parser test_openai_request test_choice test_front_api test_front_failures test_front_conn test_front_admin
UNIT_FRONT += test_front_layout test_front_end
UNIT_FRONT += test_stream_position test_stream_codec test_front_resume
UNIT_LAYOUT := test_layout_spec test_layout_load test_layout_fleet test_layout_place test_layout test_layout_rates test_layout_apart
UNIT_LAYOUT += test_layout_storm
UNIT_LAYOUT += test_layout_model
UNIT_CLI := test_cli_fleet test_cli_cluster
UNIT_CLI += test_cli_sim test_cli_procs
UNIT_CONTROLLER := test_worker_links
UNIT_CONTROLLER += test_journal_segment test_journal
UNIT_CONTROLLER += test_journal_redis test_handover
UNIT_CAPACITY := test_capacity_wish test_capacity_fleet test_capacity_intent test_capacity_need
UNIT_CAPACITY += test_capacity_prices
UNIT_LINKS := test_link_both_ends test_link_older
UNIT_CLOUD := test_cloud_times test_cloud_source_aws test_cloud_source_gcp test_cloud_source_azure test_cloud_source_sim \
              test_cloud_watch_options test_cloud_xml test_cloud_web test_cloud_capacity test_cloud_watch

# Fuzz targets, tests/fuzz/<name>.c with a corpus in tests/fuzz/corpus/<name less fuzz_>: one per parser of outside bytes.
FUZZ := fuzz_json fuzz_frame fuzz_http fuzz_wire fuzz_tokenizer_json fuzz_chat_template fuzz_safetensors fuzz_model_config
FUZZ += fuzz_layout_spec fuzz_cluster_view
FUZZ += fuzz_plan fuzz_coll
FUZZ += fuzz_mesh fuzz_step_desc fuzz_part
FUZZ += fuzz_journal fuzz_stream fuzz_handover
FUZZ += fuzz_page_codec
FUZZ += fuzz_redis_replies fuzz_store_peer
FUZZ += fuzz_cloud_metadata fuzz_cloud_api

# CUDA's operations. nvcc builds them (make cuda); their tests run the same sources on the host shim.
CUDA_OPS := kernels/cuda/embed.cu kernels/cuda/rmsnorm.cu kernels/cuda/rope_append.cu kernels/cuda/silu_mul.cu kernels/cuda/gather.cu \
            kernels/cuda/scatter_add.cu kernels/cuda/tree_add.cu kernels/cuda/pages.cu \
            kernels/cuda/attention_prefill.cu kernels/cuda/attention_decode.cu kernels/cuda/matmul.cu \
            kernels/cuda/route.cu kernels/cuda/weigh.cu kernels/cuda/pad.cu kernels/cuda/pick.cu kernels/cuda/row_sum.cu
CUDA_OPS += kernels/cuda/quantize.cu kernels/cuda/matmul_int8.cu kernels/cuda/matmul_f32.cu kernels/cuda/attention_f32.cu
# The device and the table over them: C, without a header of CUDA
CUDA_DEVICE := kernels/cuda/cuda_device.c kernels/cuda/ops.c kernels/cuda/ops_attention.c kernels/cuda/ops_pick.c
CUDA_DEVICE += kernels/cuda/ops_int8.c kernels/cuda/ops_f32.c kernels/cuda/ops_fp8.c
CUDA_DEVICE += kernels/cuda/ops_fast.c kernels/cuda/ops_graph.c kernels/cuda/cublas_api.c kernels/cuda/cublas_matmul.c
CUDA_SHIM := tests/lib/cuda_shim.cpp tests/lib/cuda_shim_warp.cpp tests/lib/cuda_shim_faults.cu
CUDA_SHIM += tests/lib/cuda_shim_graph.cpp
# What a worker loads for a GPU: the kernels, the device over them and CUDA's runtime
CUDA_LIBRARY := $(CUDA_OPS) $(CUDA_DEVICE) kernels/cuda/library.c kernels/cuda/stream_cuda.c kernels/device_memory.c kernels/convert.c \
                base/err.c base/clock.c base/dl_calls.c
UNIT_CUDA := test_cuda_shim test_cuda_rows test_cuda_attention test_cuda_matmul
UNIT_CUDA_WORKER := test_cuda_engine test_cuda_device test_cuda_pick test_cuda_ranks
UNIT_CUDA_WORKER += test_cuda_int8 test_cuda_fp8
UNIT_CUDA_WORKER += test_cuda_fast test_cuda_graph test_cuda_pages test_cuda_f32

# ---- rules -----------------------------------------------------------------------------------------------------

FOLDERS := BASE MIGRATE KERNELS WORKER CORE PLAN LAYOUT TEXT FRONT FRONT_TEST CONTROLLER CAPACITY CLI CLOUD
FOLDERS += COLL_DEVICE_TEST
FOLDERS += CUDA_DEVICE
PROGRAMS := godwit $(if $(wildcard controller/main_controller.c),godwit-controller) $(if $(wildcard worker/main_worker.c),godwit-worker)
PROGRAMS += godwit-watch

# $(call libs,variant,FOLDER...) - the archives, in link order
libs = $(foreach f,$(2),$(if $($(f)),build/$(1)/lib$(f).a))

# $(call stamp,FILE,TEXT): FILE is written when TEXT is not what it holds; what depends on it is then made again.
define stamp
$(1): force
	@mkdir -p $$(@D) && { echo '$(2)' | cmp -s - $$@ || echo '$(2)' >$$@; }
endef
.PHONY: force
FLAG_LINES := $(shell grep -hE 'FLAGS|ISA' $(firstword $(MAKEFILE_LIST)) | cksum)

define variant
$(call stamp,build/$(1)/flags,$(CC) $(CPPFLAGS) $(CFLAGS) $(CFLAGS_$(1)) $(FLAG_LINES))
build/$(1)/%.o: %.c build/$(1)/flags
	@mkdir -p $$(@D)
	@echo "  CC    $$@"; $$(CC) $$(CPPFLAGS) -DGW_VERSION='"$$(VERSION)"' $$(CFLAGS) $$(CFLAGS_$(1)) $$(ISA) $$(FLAGS_$$(*F)) -MMD -MP -c $$< -o $$@

$(foreach f,$(FOLDERS),
$(call stamp,build/$(1)/$(f).list,$($(f)))
build/$(1)/lib$(f).a: $($(f):%.c=build/$(1)/%.o) build/$(1)/$(f).list
	@rm -f $$@ && ar rcs $$@ $$(filter %.o,$$^)
)

build/$(1)/godwit: build/$(1)/controller/cli/main_godwit.o $(call libs,$(1),CLI LAYOUT PLAN MIGRATE BASE)
	@echo "  LINK  $$@"; $$(CC) $$(LDFLAGS_$(1)) $$^ $$(LIBS) -o $$@
build/$(1)/godwit-controller: build/$(1)/controller/main_controller.o $(call libs,$(1),CONTROLLER CAPACITY FRONT LAYOUT TEXT PLAN CORE CLOUD MIGRATE BASE)
	@echo "  LINK  $$@"; $$(CC) $$(LDFLAGS_$(1)) $$^ $$(LIBS) -lexpat -o $$@
build/$(1)/godwit-worker: build/$(1)/worker/main_worker.o $(call libs,$(1),WORKER KERNELS MIGRATE BASE)
	@echo "  LINK  $$@"; $$(CC) $$(LDFLAGS_$(1)) $$^ $$(LIBS) -o $$@
build/$(1)/godwit-watch: build/$(1)/cloud/main_watch.o $(call libs,$(1),CLOUD BASE)
	@echo "  LINK  $$@"; $$(CC) $$(LDFLAGS_$(1)) $$^ $$(WATCH_LIBS) -o $$@

# One call to a cloud's API, for the tests that play the cloud.
build/$(1)/tests/cloud_call: build/$(1)/tests/lib/main_cloud_call.o $(call libs,$(1),CLOUD BASE)
	@echo "  LINK  $$@"; $$(CC) $$(LDFLAGS_$(1)) $$^ $$(CLOUD_LIBS) -o $$@

# Workers that compute nothing, for the tests of large fleets.
build/$(1)/tests/fake_fleet: build/$(1)/tests/lib/main_fake_fleet.o $(call libs,$(1),WORKER MIGRATE BASE)
	@echo "  LINK  $$@"; $$(CC) $$(LDFLAGS_$(1)) $$^ $$(LIBS) -o $$@

build/$(1)/tests/sim/godwit-sim: $(SIM:%.c=build/$(1)/%.o) $(call libs,$(1),CORE PLAN MIGRATE BASE)
	@echo "  LINK  $$@"; $$(CC) $$(LDFLAGS_$(1)) $$^ $$(LIBS) -o $$@

# The stand-ins for libcudart, libcublasLt and libnccl, which the tests load as they would those.
build/$(1)/tests/lib/fake_cudart.so: tests/lib/fake_cudart.c build/$(1)/flags
	@mkdir -p $$(@D)
	@echo "  LINK  $$@"; $$(CC) $$(CPPFLAGS) $$(CFLAGS) $$(CFLAGS_$(1)) -fPIC -fvisibility=hidden -shared $$(filter %.c,$$^) -o $$@
build/$(1)/tests/lib/fake_cublaslt.so: tests/lib/fake_cublaslt.c tests/lib/fake_cublaslt.h kernels/cuda/cublas_api.h build/$(1)/flags
	@mkdir -p $$(@D)
	@echo "  LINK  $$@"; $$(CC) $$(CPPFLAGS) $$(CFLAGS) $$(CFLAGS_$(1)) -fPIC -fvisibility=hidden -shared $$(filter %.c,$$^) -o $$@
build/$(1)/tests/lib/fake_nccl.so: tests/lib/fake_nccl.c base/clock.c base/rng.c tests/lib/fake_nccl.h tests/lib/host_stream.h \
		kernels/cuda/nccl_api.h kernels/cuda/stream.h build/$(1)/flags
	@mkdir -p $$(@D)
	@echo "  LINK  $$@"; $$(CC) $$(CPPFLAGS) $$(CFLAGS) $$(CFLAGS_$(1)) -fPIC -fvisibility=hidden -shared $$(filter %.c,$$^) -o $$@

$(call unit_rule,$(1),UNIT_BASE,BASE)
$(call unit_rule,$(1),UNIT_MIGRATE,MIGRATE BASE)
$(call unit_rule,$(1),UNIT_KERNELS,KERNELS MIGRATE BASE)
$(call unit_rule,$(1),UNIT_COLL_DEVICE,COLL_DEVICE_TEST KERNELS BASE)
$(UNIT_COLL_DEVICE:%=build/$(1)/tests/unit/%): | build/$(1)/tests/lib/fake_nccl.so build/$(1)/tests/lib/fake_cudart.so
$(call unit_rule,$(1),UNIT_WORKER,WORKER KERNELS MIGRATE BASE)
$(call unit_rule,$(1),UNIT_LOSS,WORKER KERNELS TEXT MIGRATE BASE)
$(call unit_rule,$(1),UNIT_CORE,CORE MIGRATE BASE)
$(call unit_rule,$(1),UNIT_PLAN,PLAN MIGRATE BASE)
$(call unit_rule,$(1),UNIT_TEXT,TEXT BASE)
$(call unit_rule,$(1),UNIT_LAYOUT,LAYOUT PLAN CORE MIGRATE BASE)
$(call unit_rule,$(1),UNIT_FRONT,FRONT_TEST FRONT TEXT MIGRATE BASE)
$(call unit_rule,$(1),UNIT_CLI,CLI LAYOUT PLAN MIGRATE BASE)
$(call unit_rule,$(1),UNIT_CONTROLLER,CONTROLLER CORE MIGRATE BASE)
$(call unit_rule,$(1),UNIT_CAPACITY,CAPACITY LAYOUT PLAN CORE CLOUD MIGRATE BASE)
$(call unit_rule,$(1),UNIT_LINKS,CONTROLLER WORKER MIGRATE BASE)
$(call unit_rule,$(1),UNIT_CLOUD,CLOUD BASE)
build/$(1)/tests/fuzz/fuzz_cloud_%: LIBS = build/$(1)/libCLOUD.a build/$(1)/libBASE.a $(CLOUD_LIBS)
build/$(1)/tests/fuzz/fuzz_cloud_metadata build/$(1)/tests/fuzz/fuzz_cloud_api: $(call libs,$(1),CLOUD BASE)
$(FUZZ:%=build/$(1)/tests/fuzz/%): build/$(1)/tests/fuzz/%: build/$(1)/tests/fuzz/%.o $(if $(filter fuzz,$(1)),,build/$(1)/tests/fuzz/driver.o) \
		$(call libs,$(1),CLI LAYOUT PLAN CONTROLLER FRONT TEXT CORE WORKER KERNELS MIGRATE BASE)
	@echo "  LINK  $$@"; $$(CC) $$(LDFLAGS_$(1)) $$^ $$(LIBS) -o $$@
endef

# $(call unit_rule,variant,TEST LIST,FOLDERS): one binary per test file
define unit_rule
$(if $($(2)),$($(2):%=build/$(1)/tests/unit/%): build/$(1)/tests/unit/%: build/$(1)/tests/unit/%.o $(call libs,$(1),$(3))
	@echo "  LINK  $$@"; $$(CC) $$(LDFLAGS_$(1)) $$^ -lcmocka $$(LIBS) -o $$@)
endef

$(eval $(call variant,release))
$(eval $(call variant,asan))
$(eval $(call variant,tsan))
$(eval $(call variant,fuzz))

# The .cu sources as C++, on the shim. No exceptions, no run-time types: gcc links them.
CXX_WARN := $(filter-out -Wstrict-prototypes -Wmissing-prototypes,$(WARN)) -Wno-unknown-pragmas
CXXFLAGS_shim = -std=gnu++17 $(filter-out -std=% -W%,$(CFLAGS)) $(CXX_WARN) -fno-exceptions -fno-rtti $(patsubst -O1,-O2,$(CFLAGS_asan))
build/asan/shim/%.o: %.cu tests/lib/cuda_shim.h build/asan/flags
	@mkdir -p $(@D)
	@echo "  CXX   $@"; $(CXX) -x c++ $(CPPFLAGS) $(CXXFLAGS_shim) -include tests/lib/cuda_shim.h -MMD -MP -c $< -o $@
build/asan/shim/%.o: %.cpp build/asan/flags
	@mkdir -p $(@D)
	@echo "  CXX   $@"; $(CXX) $(CPPFLAGS) $(CXXFLAGS_shim) -MMD -MP -c $< -o $@
CUDA_SHIM_OBJECTS := $(addsuffix .o,$(addprefix build/asan/shim/,$(basename $(CUDA_OPS) $(CUDA_SHIM))))
$(UNIT_CUDA:%=build/asan/tests/unit/%): build/asan/tests/unit/%: build/asan/tests/unit/%.o $(CUDA_SHIM_OBJECTS) $(call libs,asan,KERNELS MIGRATE BASE)
	@echo "  LINK  $@"; $(CC) $(LDFLAGS_asan) $^ -lcmocka $(LIBS) -o $@
$(UNIT_CUDA_WORKER:%=build/asan/tests/unit/%): build/asan/tests/unit/%: build/asan/tests/unit/%.o $(call libs,asan,CUDA_DEVICE) $(CUDA_SHIM_OBJECTS) $(call libs,asan,WORKER COLL_DEVICE_TEST KERNELS MIGRATE BASE)
	@echo "  LINK  $@"; $(CC) $(LDFLAGS_asan) $^ -lcmocka $(LIBS) -o $@
build/asan/tests/unit/test_cuda_ranks: | build/asan/tests/lib/fake_nccl.so
build/asan/tests/unit/test_cuda_fast build/asan/tests/unit/test_cuda_graph: | build/asan/tests/lib/fake_cublaslt.so
# The version is compiled into the programs' main files alone; they follow it.
$(foreach v,release asan tsan,$(addprefix build/$(v)/,controller/cli/main_godwit.o controller/main_controller.o worker/main_worker.o cloud/main_watch.o)): build/version
$(eval $(call stamp,build/version,$(VERSION)))

-include $(shell find build/release build/asan build/tsan build/fuzz -name '*.d' 2>/dev/null)

.PHONY: all asan unit help clean
all: $(PROGRAMS:%=build/%) ## build the programs (release): build/godwit, build/godwit-controller, build/godwit-worker
$(PROGRAMS:%=build/%): build/%: build/release/%
	@ln -sf release/$* $@

asan: $(PROGRAMS:%=build/asan/%) ## build the programs with ASan and UBSan, under build/asan

# The slow ones first, so that none of them runs alone at the end.
UNIT := $(UNIT_WORKER) $(UNIT_TEXT) $(UNIT_KERNELS) $(UNIT_BASE) $(UNIT_MIGRATE) $(UNIT_CORE) $(UNIT_PLAN) $(UNIT_FRONT) $(UNIT_LAYOUT) $(UNIT_CLI) $(UNIT_CONTROLLER) $(UNIT_CAPACITY) $(UNIT_LINKS) $(UNIT_CLOUD)
UNIT += $(UNIT_COLL_DEVICE)
UNIT += $(UNIT_CUDA) $(UNIT_CUDA_WORKER)
unit: $(UNIT:%=build/asan/tests/unit/%) ## build and run the unit tests (ASan + UBSan)
	@$(RUN) --jobs $(RUN_JOBS) $^

# ---- what is run, and how ----------------------------------------------------------------------------------------

# Unit tests that also run on the -O3 build (bit-exactness); those of the kernels always do.
EXACT := test_models_exact test_profiles_exact test_engine_golden test_engine_exact test_engine_exact_branches test_ranks test_sampler test_parts
# Unit tests that also run under ThreadSanitizer: where threads meet.
TSAN := test_base_pool test_kernels_device test_coll_failures
TSAN += test_mesh test_mesh_tls test_mesh_strangers test_member
TSAN += test_peer test_peer_server test_peer_wrong test_peer_pull
TSAN += test_layout
TSAN += test_journal test_handover
TSAN += test_store_faults test_store_peer test_store_mix
TSAN += test_stores test_checkpoint test_page_offload
TSAN += test_cell_line test_cell_load
TSAN += test_coll_nccl test_coll_staged
# End-to-end scripts: PATH[,ARG...][@seconds allowed]. SHORT are part of `make check`, LONG of `make test-full` only.
E2E_SHORT := tests/lint/test_lint.py@120 tests/e2e/test_harness.py@120 tests/e2e/test_curl.py@120
# These wait, or run no cluster: beside the unit tests.
E2E_LIGHT := tests/e2e/test_cloud_watch.py@300 tests/e2e/test_cloud_aws.py@300 tests/e2e/test_cloud_groups.py@300
E2E_LIGHT += tests/e2e/test_terraform.py@300 tests/e2e/test_plan.py@300 tests/e2e/test_bad_model.py@300
E2E := tests/e2e/test_install.py@600 tests/e2e/test_openai.py@300 tests/e2e/test_bad_input.py@300 \
       tests/e2e/test_recovery.py@300 tests/e2e/test_churn.py@600 tests/e2e/test_layouts.py@600
E2E += tests/e2e/test_capacity.py@300 tests/e2e/test_storm.py@120 tests/e2e/test_up_cloud.py@300 tests/e2e/test_zones.py@300
E2E += tests/e2e/test_netns.py@120 tests/e2e/test_hosts.py@300
E2E += tests/e2e/test_layout_cli.py@300 tests/e2e/test_failpoints.py@400
E2E += tests/e2e/test_resume.py@300 tests/e2e/test_standby.py@300 tests/e2e/test_handover.py@300
E2E += tests/e2e/test_controller_deaths.py@300
E2E += tests/e2e/test_stores.py@400
E2E += tests/e2e/test_models.py@400
E2E += tests/e2e/test_weights.py@300 tests/e2e/test_int8.py@300 tests/e2e/test_bf16amx.py@300
# For one architecture: those of `make cuda` take minutes. Skipped where there is no nvcc.
E2E_LIGHT += tests/lib/cuda_build.py,--archs,90a,--library,build/cuda/libgodwit-cuda.so,--version,$(VERSION)$(subst $() ,,$(CUDA_LIBRARY:%=,%))@900
E2E += tests/e2e/test_device.py@120
E2E_LONG :=
# Programs that print `bench` lines: C ones (tests/bench/<name>.c, run on the release build) and scripts.
BENCH := bench_kernels bench_int8 bench_attention bench_coll bench_engine bench_sampler bench_plan
BENCH += bench_onednn
LIBS_bench_onednn := $(if $(wildcard /usr/include/dnnl.h),-ldnnl -lgomp)
BENCH_MODEL := bench_ranks bench_prepare bench_moves bench_weights bench_checkpoint
LIBS_bench_moves := -lcmocka
LIBS_bench_checkpoint := -Wl,--wrap=gw_checkpoint_offer # so that it can leave offers out
BENCH_E2E := tests/bench/bench_recovery.py tests/bench/bench_clouds.py tests/bench/bench_token.py

JOBS ?= $(shell nproc)
RUN_JOBS = $(shell expr $(JOBS) + 1) # some of the tests wait
# Commands that call make again use the outer make's job slots where it has them, else all processors.
SUBMAKE = $(MAKE) --no-print-directory $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(JOBS))
RUN = PATH="$(CURDIR)/build/venv/bin:$$PATH" tests/run.py
TESTS_ASAN := $(UNIT:%=build/asan/tests/unit/%)
TESTS_RELEASE := $(patsubst %,build/release/tests/unit/%,$(sort $(UNIT_KERNELS) $(EXACT) $(UNIT_LOSS)))
TESTS_TSAN := $(TSAN:%=build/tsan/tests/unit/%)
FUZZ_RUNS := 20000
FUZZ_SEED ?= 1
FUZZ_SHORT := $(foreach f,$(FUZZ),build/asan/tests/fuzz/$(f),--runs,$(FUZZ_RUNS),--seed,$(FUZZ_SEED),tests/fuzz/corpus/$(f:fuzz_%=%))
FUZZ_S ?= 60
ifneq ($(SIM),)
SIM_PROGRAM := build/asan/tests/sim/godwit-sim
# As many sessions as fit into a quarter of a minute: the -O3 build, whose asserts stay on
SIM_SESSIONS := build/release/tests/sim/godwit-sim
SIM_SHORT := $(SIM_PROGRAM),--tap,--seeds,20
SIM_TEST := $(SIM_PROGRAM),--tap,--seeds,150 $(SIM_SESSIONS),--tap,--sessions,--seeds,800
SIM_LONG := $(SIM_PROGRAM),--tap,--seeds,4000@3600 $(SIM_PROGRAM),--tap,--seeds,1000,--instances,20@3600 \
            $(SIM_PROGRAM),--tap,--sessions,--seeds,2000@3600 tests/sim/mutants.py@3600
endif

.PHONY: deps lint format check test test-full test-build
deps: ## install what building and testing need (Debian 12; root or sudo)
	@.ci/deps build test lint demo

lint: ## format, include directions, shape of the code, static analysis (ONLY=check,check)
	@tests/lint/lint.py $(if $(ONLY),--only $(ONLY))

format: ## rewrite the C sources by clang-format
	git ls-files -z '*.c' '*.h' | xargs -0 clang-format -i

check: ## what to run before a commit: lint, unit tests, short simulator and end-to-end runs (4 minutes at most)
	@.ci/deps build test lint
	@tests/lint/lint.py
	@+$(SUBMAKE) all asan $(TESTS_ASAN) $(SIM_PROGRAM)
	@$(RUN) --jobs $(RUN_JOBS) $(TESTS_ASAN) $(SIM_SHORT) --serial $(E2E_SHORT)

TESTS = $(TESTS_ASAN) $(TESTS_RELEASE) $(TESTS_TSAN)
test-build: build/asan/tests/cloud_call build/release/tests/cloud_call build/asan/tests/fake_fleet
test-build: all asan $(TESTS) $(SIM_PROGRAM) $(SIM_SESSIONS) $(FUZZ:%=build/asan/tests/fuzz/%)

test: ## install what the tests need, build release and ASan + UBSan, run everything but the long runs
	@.ci/deps build test
	@+$(SUBMAKE) test-build
	@$(RUN) --jobs $(RUN_JOBS) --report build/test-report.jsonl $(E2E_LIGHT) $(TESTS) $(FUZZ_SHORT) $(SIM_TEST) \
		--serial $(E2E_SHORT) $(E2E)

test-full: ## the same and the long runs
	@.ci/deps build test lint
	@tests/lint/lint.py
	@+$(SUBMAKE) test-build
	@$(RUN) --jobs $(RUN_JOBS) --report build/test-report.jsonl $(E2E_LIGHT) $(TESTS) $(FUZZ_SHORT) $(SIM_LONG) \
		--serial $(E2E_SHORT) $(E2E) $(E2E_LONG)

.PHONY: demo bench
demo: ## chat completions that stream on while workers are reclaimed, killed and frozen: build it, show it, check it
	@.ci/deps build demo
	@+$(SUBMAKE) all
	@tests/e2e/demo.py

$(patsubst %,build/release/tests/bench/%,$(BENCH) $(BENCH_MODEL) token_socket): build/release/tests/bench/%: build/release/tests/bench/%.o $(call libs,release,WORKER KERNELS PLAN MIGRATE BASE)
	@echo "  LINK  $@"; $(CC) $^ $(LIBS) $(LIBS_$(@F)) -o $@
BENCH_DIR ?= build/llama-1b
$(BENCH_DIR)/model.safetensors:
	tests/bench/make_model.py llama-1b $(BENCH_DIR)
bench-ranks: $(BENCH_MODEL:%=build/release/tests/bench/%) $(BENCH_DIR)/model.safetensors ## measure ranks on a 1B model of random weights (BENCH_DIR=build/llama-1b, 2.5 GB; wants python3-numpy)
	@for b in $(BENCH_MODEL); do build/release/tests/bench/$$b $(BENCH_DIR) || exit; done

# Beside llama.cpp, as PyPI's llama-cpp-python builds it for this machine. SHORT=1: fewer rounds, two threads alone
PEERS_PYTHON := build/peers/bin/python
PEERS := peer_godwit peer_logits
$(PEERS:%=build/release/tests/bench/%): build/release/tests/bench/%: build/release/tests/bench/%.o $(call libs,release,TEXT WORKER KERNELS MIGRATE BASE)
	@echo "  LINK  $@"; $(CC) $^ $(LIBS) -o $@
.PHONY: bench-peers
bench-peers: ## measure beside llama.cpp and oneDNN on a 1B model (SHORT=1: fewer rounds; builds llama.cpp first, half an hour)
	@.ci/deps build bench
	@tests/bench/peers_setup.sh $(BENCH_DIR)
	@+$(SUBMAKE) all $(PEERS:%=build/release/tests/bench/%) build/release/tests/bench/bench_onednn
	@build/release/tests/bench/bench_onednn 2 $(if $(SHORT),1,3)
	@$(PEERS_PYTHON) tests/bench/bench_peers.py $(BENCH_DIR) $(if $(SHORT),--short)
	@$(PEERS_PYTHON) tests/bench/bench_loss.py $(BENCH_DIR)
	@$(PEERS_PYTHON) tests/bench/bench_serving.py $(BENCH_DIR) $(if $(SHORT),,--python $(PEERS_PYTHON))

BENCH_MIGRATE := bench_page bench_migrate bench_store
$(BENCH_MIGRATE:%=build/release/tests/bench/%): build/release/tests/bench/%: build/release/tests/bench/%.o $(call libs,release,MIGRATE BASE)
	@echo "  LINK  $@"; $(CC) $^ $(LIBS) -o $@
.PHONY: bench-migrate
bench-migrate: $(BENCH_MIGRATE:%=build/release/tests/bench/%) ## measure KV on the move: stores against raw hiredis (wants redis-server)
	@for b in $^; do $$b || exit; done

bench: all build/release/tests/cloud_call $(BENCH:%=build/release/tests/bench/%) build/release/tests/bench/token_socket ## measure: lines `bench <name> ours=<x> ref=<y> ratio=<x/y> unit=<u>`
	@for b in $(BENCH:%=build/release/tests/bench/%) $(BENCH_E2E); do $$b || exit; done

.PHONY: fuzz
ifneq ($(shell command -v clang),)
fuzz: $(FUZZ:%=build/fuzz/tests/fuzz/%) ## fuzz each parser for FUZZ_S seconds (60): libFuzzer where clang is, else mutations alone
	@for f in $(FUZZ:fuzz_%=%); do echo "fuzz: $$f"; mkdir -p build/fuzz/corpus/$$f; \
		build/fuzz/tests/fuzz/fuzz_$$f -max_total_time=$(FUZZ_S) -timeout=20 -print_final_stats=1 -verbosity=0 \
			-artifact_prefix=build/fuzz/$$f- build/fuzz/corpus/$$f tests/fuzz/corpus/$$f || exit; done
else
fuzz: $(FUZZ:%=build/asan/tests/fuzz/%)
	@for f in $(FUZZ:fuzz_%=%); do echo "fuzz: $$f"; \
		timeout $(FUZZ_S) build/asan/tests/fuzz/fuzz_$$f --runs 1000000000 --seed $$RANDOM tests/fuzz/corpus/$$f; \
		[ $$? = 124 ] || exit 1; done
endif

.PHONY: cuda
CUDA_ARCHS ?= 75 80 89 90a 100
cuda: ## build libgodwit-cuda.so beside godwit-worker by nvcc for CUDA_ARCHS (75 80 89 90a 100), and see that attention does not spill
	@tests/lib/cuda_build.py --archs '$(CUDA_ARCHS)' --library build/release/libgodwit-cuda.so --version '$(VERSION)' $(CUDA_LIBRARY)
	@ln -sf release/libgodwit-cuda.so build/libgodwit-cuda.so

# Where a GPU is. Both say "no GPU: skipped", and succeed, elsewhere.
GPU ?= cuda:0
TESTS_GPU := build/release/tests/gpu/test_gpu build/release/tests/gpu/bench_gpu
$(TESTS_GPU): build/release/tests/gpu/%: build/release/tests/gpu/%.o $(call libs,release,WORKER KERNELS MIGRATE BASE)
	@echo "  LINK  $@"; $(CC) $(LDFLAGS_release) $^ -lcmocka $(LIBS) -o $@
.PHONY: test-gpu bench-gpu
test-gpu: all build/release/tests/gpu/test_gpu ## test the CUDA backend on GPU=cuda:0 (`make cuda` first), and under compute-sanitizer where that is
	@tests/gpu/run.py test '$(VERSION)' '$(GPU)'
bench-gpu: all build/release/tests/gpu/bench_gpu ## measure the CUDA backend on GPU=cuda:0 (`make cuda` first), beside PyTorch and transformers where they are
	@tests/gpu/run.py bench '$(VERSION)' '$(GPU)'

# ---- installing --------------------------------------------------------------------------------------------------

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
BINDIR     := $(PREFIX)/bin
DATADIR    := $(PREFIX)/share
DOCDIR     := $(DATADIR)/doc/godwit
UNITDIR    := $(PREFIX)/lib/systemd/system
INSTALL    ?= install
STRIP_FLAG ?=
MODEL      := tests/models/tattler-3m
UNITS      := controller/godwit-controller.service worker/godwit-worker.service
CONFS      := controller/controller.conf worker/worker.conf
UNITS      += cloud/godwit-watch.service
CONFS      += cloud/watch.conf
# Units and configuration name their files by @PATHS@.
SUBST_PATHS := sed -e 's|@BINDIR@|$(BINDIR)|g' -e 's|@DATADIR@|$(DATADIR)|g' -e 's|@DOCDIR@|$(DOCDIR)|g' \
               -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g'

.PHONY: install uninstall deb
install: all ## install programs, model, units and documents (PREFIX=/usr/local SYSCONFDIR=/etc DESTDIR=)
	$(INSTALL) -d $(addprefix '$(DESTDIR)',$(BINDIR) $(UNITDIR) $(DOCDIR) $(DATADIR)/godwit/models/$(notdir $(MODEL)) $(SYSCONFDIR)/godwit)
	$(INSTALL) -m 755 $(STRIP_FLAG) $(PROGRAMS:%=build/release/%) '$(DESTDIR)$(BINDIR)'
	$(INSTALL) -m 644 $(wildcard $(MODEL)/*) '$(DESTDIR)$(DATADIR)/godwit/models/$(notdir $(MODEL))'
	$(INSTALL) -m 644 $(wildcard README.md LICENSE) '$(DESTDIR)$(DOCDIR)'
	@for f in $(UNITS); do \
		$(SUBST_PATHS) $$f | $(INSTALL) -m 644 /dev/stdin '$(DESTDIR)$(UNITDIR)'/$${f##*/} || exit; done
	@# What an administrator has edited stays.
	@for f in $(CONFS); do t='$(DESTDIR)$(SYSCONFDIR)/godwit'/$${f##*/}; test -e "$$t" || \
		$(SUBST_PATHS) $$f | $(INSTALL) -m 644 /dev/stdin "$$t" || exit; done

uninstall: ## remove what install put there, but the configuration
	rm -f $(PROGRAMS:%='$(DESTDIR)$(BINDIR)/%') $(foreach u,$(UNITS),'$(DESTDIR)$(UNITDIR)/$(notdir $(u))')
	rm -rf '$(DESTDIR)$(DATADIR)/godwit' '$(DESTDIR)$(DOCDIR)'

DEB := build/godwit_$(VERSION)_amd64.deb
deb: ## build a Debian package, build/godwit_<version>_amd64.deb
	@.ci/deps build deb
	@+$(SUBMAKE) all
	@rm -rf build/deb build/godwit_*.deb
	@$(MAKE) -s install DESTDIR=$(CURDIR)/build/deb/root PREFIX=/usr SYSCONFDIR=/etc STRIP_FLAG=-s
	@.ci/debian/package build/deb/root '$(VERSION)' $(DEB)

clean: ## remove everything that was built
	rm -rf build

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'
