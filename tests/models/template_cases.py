"""Chat templates and conversations for make_text_goldens.py. The templates are this project's own; they use the constructs
that the templates of well-known model families use. Data only; see make_text_goldens.py for how to run it."""

LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set sys = messages[0]['content'] %}{% else %}{% set rest = messages %}{% set sys = false %}{% endif %}
{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must take turns: user/assistant/user/assistant/...') }}{% endif %}
{% if loop.index0 == 0 and sys != false %}{% set text = '<<SYS>>\\n' + sys + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set text = message['content'] %}{% endif %}
{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + text.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + text.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""

LLAMA3 = """{% set turns = messages %}{% for message in turns %}{% set text = '<|start_header_id|>' + message['role'] + '<|end_header_id|>

' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set text = bos_token + text %}{% endif %}{{ text }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>

' }}{% endif %}"""

LLAMA31 = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message comes first, with the dates in front of it. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Knowledge ends: December 2023\\n" }}
{{- "Today: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}

{#- All other messages. #}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("Only one call at a time, please") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace(index=0, users=0) %}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" or (message.role == "assistant" and message.content is not none) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After an optional system message, user and assistant must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- set ns.users = ns.users + 1 %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {%- if message["content"] is string %}
            {{- " " ~ message["content"] | trim ~ eos_token }}
        {%- else %}
            {{- raise_exception("Only text is supported") }}
        {%- endif %}
    {%- else %}
        {{- raise_exception("Unknown role: " + message["role"]) }}
    {%- endif %}
{%- endfor %}
"""

CHATML = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful assistant.<|im_end|>
' }}{% endif %}{{ '<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

QWEN = """{%- if messages[0].role == 'system' and messages[0].content %}
    {{- '<|im_start|>system\\n' ~ messages[0].content ~ '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last_query=messages|length - 1, found=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.found and message.role == "user" and message.content is string and not (message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.found = true %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- elif message.content is none %}
        {%- set content = '' %}
    {%- else %}
        {%- set content = message.content | map(attribute='text') | join('') %}
    {%- endif %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query and thought %}
            {{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') + '<|im_end|>\\n' }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content + '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

CORE = """{# Filters, tests, arithmetic and scoping that templates in the wild use. #}
{% for m in messages -%}
{{ loop.index }}/{{ loop.length }}{{ ' first' if loop.first else '' }}{{ ' last' if loop.last }} {{ m.role | lower }}: {{ m['content'] | default('-', true) | trim | upper }}
{% endfor -%}
{% set n = messages | length -%}
{{ n }} {{ n % 2 }} {{ n + 1 }} {{ n - 1 }} {{ n * 2 }} {{ n > 1 and not n == 2 }} {{ n <= 1 or n != 3 }} {{ 2 <= 2 }} {{ none }} {{ true }} {{ 'a' ~ n ~ 'b' }} {{ 'a' + 'b' }}
{{ ['a', 'b', 'c'] | join('-') }} {{ ['a', 'b', 'c'][1:] | join }} {{ 'abc'[0] }} {{ 'abc'[-2:] }} {{ 'b' in 'abc' }} {{ 'z' not in ['a', 'b'] }} {{ 'x,y'.split(',')[1] }} {{ '  s '.strip() }}
{{ missing is defined }} {{ missing is not defined }} [{{ missing }}] {{ missing | default('gone') }} {{ messages[0] is mapping }} {{ 'q' is string }} {{ messages is string }} {{ none is none }} {{ n is not none }} {{ messages is iterable }}
{%- set outer = 1 %}{% for m in messages %}{% set outer = outer + 1 %}{% endfor %} {{ outer }}
{%- set ns = namespace(count=0, text='') %}{% for m in messages %}{% set ns.count = ns.count + 1 %}{% set ns.text = ns.text ~ loop.index0 %}{% endfor %} {{ ns.count }} {{ ns.text }}
{%- if n == 0 %} none {%- elif n == 1 %} one {%- elif n < 4 %} few {%- else %} many {%- endif %}
  {% if true %}
    indented
  {% endif %}
tail {{- ' joined' -}}   \t x
{{ messages | tojson }}
"""

EXTRA = """{# Less common: macros, filtered loops, loop control, literals of mappings, more filters. #}
{%- macro show(name, value='nothing', mark="!") -%}
[{{ name | upper }}={{ value }}{{ mark }}]
{%- endmacro -%}
{% for m in messages if m.role in ['user', 'assistant'] -%}
{{ loop.index }}/{{ loop.length }} {{ m.role | title }}: {{ m['content'] | default('-', true) | replace('a', '4') }}
{% else -%}
nobody
{% endfor -%}
{{ show('n', messages | length) }}{{ show('x') }}{{ show(name='y', value=1 + 2 * 3, mark='?') }}
{% set a, b = 7, 2 -%}
{{ a // b }} {{ a ** b }} {{ a / b }} {{ -a }} {{ 1.5 + 1 }} {{ a is odd }} {{ 'x' * 3 }} {{ 'abc'[::-1] }}
{% set d = {'k': 'v', 'list': [1, 'two', none, true, 1.5], 'n': {'m': "q\\"uo'te <&>"}} -%}
{{ d | tojson }} {{ d.list[1] }} {{ d['list'][-1] }} {{ d.list[1:3] | length }} {{ d.get('zz', 'no') }} {{ 'k' in d }} {{ 'z' not in d }} {{ d is mapping }} {{ a is number }}
{% for k, v in d.items() %}{{ k }}{% if not loop.last %}, {% endif %}{% endfor +%}
{{ 'a,b'.split(',') | last }} {{ [3, 1, 2] | sort | first }} {{ messages | map(attribute='role') | join(',') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{%- for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %} i{{ i }}{% endfor %}
"""

STRICT = """{%- if messages | length == 0 -%}{{ raise_exception('no messages') }}{%- endif -%}
{%- for m in messages -%}
  {%- if m.role not in ['user', 'assistant', 'system'] -%}{{ raise_exception('unknown role ' ~ m.role) }}{%- endif -%}
  {%- if m.content is not string -%}{%- if m.content is mapping -%}{{ m.content.text }}{%- else -%}{%- for part in m.content -%}{%- if part.type == 'text' -%}{{ part['text'] }}{%- else -%}{{ '<' ~ part.type ~ '>' }}{%- endif -%}{%- endfor -%}{%- endif -%}
  {%- else -%}{{ m.role[0] | upper }}: {{ m.content if m.content | length < 40 else m.content[:37] + '...' }}{%- endif -%}
  {{ '\\n' if not loop.last else '' }}
{%- endfor -%}
{{ '\\nA:' if add_generation_prompt else eos_token }}"""


def u(text):
    return {"role": "user", "content": text}


def a(text):
    return {"role": "assistant", "content": text}


def s(text):
    return {"role": "system", "content": text}


ONE = [u("Hello!")]
SYS = [s("Be kind."), u("Who are you?")]
TALK = [u("Hello!"), a("Hi. How can I help?"), u("Tell me about godwits.")]
SYSTALK = [s("  You are a bird guide.\n"), u("  Hello!  "), a("\n Hi there. \n"), u("More, please.\n\n")]
UNICODE = [s("Sei höflich. 你好"), u("Was heißt „Vogel“ auf Māori? 🐦‍⬛ e\u0301 \u00a0x\u3000"), a("Manu. مرحبا"), u("  \u2003Danke!\u00a0 ")]
TRICKY = [u("{{ 7 * 7 }} {% raw %} <|eot_id|> [/INST] </s> <|im_end|>"), a("{# no #} \\n \"quoted\" 'single' \\ %} }}"), u("<b>&amp;</b>\ttab\r\nline")]
EMPTY = [u("")]
ENDS_A = [u("Count."), a("1, 2,")]
TWO_U = [u("One."), u("Two.")]
TOOL = [u("Weather?"), {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Århus", "days": 2, "x": [1, None, True, 0.5]}}}]},
        {"role": "tool", "content": {"sky": "grey <b>", "wind": 7}}, a("Grey.")]
TOOL2 = [u("Weather?"), {"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": {}}}, {"function": {"name": "b", "arguments": {}}}]}]
TOOLTEXT = [u("Weather?"), {"role": "ipython", "content": "grey"}, {"role": "tool", "content": ["a", 1]}]
PARTS = [u([{"type": "text", "text": "What is "}, {"type": "image"}, {"type": "text", "text": "this?"}])]
THINK = [u("2+2?"), a("<think>\nTwo and two.\n</think>\n\n4"), u("3+3?"), a("<think>\nThree and three.\n</think>\n\n6")]
NONE = [u("Hi"), a(None), u("Still there?")]
OTHER = [u("Hi"), {"role": "critic", "content": "Hm."}]
LONGER = [s("Short answers.")] + [m for i in range(6) for m in (u(f"Question {i}"), a(f"Answer {i} "))] + [u("The last one, and it is a little longer than the others are.")]


def cases():
    out = []

    def add(family, template, label, messages, gen=True, bos="<s>", eos="</s>", **more):
        out.append({"name": f"{family}/{label}", "template": template, "messages": messages, "add_generation_prompt": gen, "bos_token": bos, "eos_token": eos, **more})

    for label, m in (("one", ONE), ("system", SYS), ("talk", TALK), ("system_talk", SYSTALK), ("unicode", UNICODE), ("tricky", TRICKY), ("longer", LONGER)):
        add("llama2", LLAMA2, label, m)
        add("llama3", LLAMA3, label, m, bos="<|begin_of_text|>", eos="<|eot_id|>")
        add("llama31", LLAMA31, label, m, bos="<|begin_of_text|>", eos="<|eot_id|>", date_string="20 Nov 2026")
        add("mistral", MISTRAL, label, m)
        add("chatml", CHATML, label, m, bos="", eos="<|im_end|>")
        add("qwen", QWEN, label, m, bos="", eos="<|im_end|>")
        add("zephyr", ZEPHYR, label, m)
    add("llama2", LLAMA2, "two_users_error", TWO_U, error=True)
    add("llama2", LLAMA2, "empty_text", EMPTY, gen=False)
    add("llama3", LLAMA3, "no_generation_prompt", TALK, gen=False, bos="<|begin_of_text|>")
    add("llama3", LLAMA3, "no_bos", ONE, bos="")
    add("llama3", LLAMA3, "empty_text", EMPTY, bos="<|begin_of_text|>")
    add("llama3", LLAMA3, "ends_with_assistant", ENDS_A, gen=False, bos="<|begin_of_text|>")
    add("llama3", LLAMA3, "no_messages", [], bos="<|begin_of_text|>")
    add("llama31", LLAMA31, "default_date", ONE, bos="<|begin_of_text|>")
    add("llama31", LLAMA31, "no_generation_prompt", SYSTALK, gen=False, bos="<|begin_of_text|>", date_string="1 Jan 2027")
    add("llama31", LLAMA31, "tool_call", TOOL, bos="<|begin_of_text|>", date_string="20 Nov 2026")
    add("llama31", LLAMA31, "tool_text", TOOLTEXT, bos="<|begin_of_text|>", date_string="20 Nov 2026")
    add("llama31", LLAMA31, "two_calls_error", TOOL2, bos="<|begin_of_text|>", date_string="20 Nov 2026", error=True)
    add("llama31", LLAMA31, "no_messages_error", [], bos="<|begin_of_text|>", error=True)
    add("mistral", MISTRAL, "ends_with_assistant", ENDS_A, gen=False)
    add("mistral", MISTRAL, "two_users_error", TWO_U, error=True)
    add("mistral", MISTRAL, "unknown_role_error", OTHER, error=True)
    add("mistral", MISTRAL, "none_between_users_error", NONE, error=True)
    add("chatml", CHATML, "no_generation_prompt", TALK, gen=False, bos="")
    add("chatml", CHATML, "empty_text", EMPTY, bos="")
    add("qwen", QWEN, "parts", [u([{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}])], bos="")
    add("qwen", QWEN, "think", THINK, gen=False, bos="")
    add("qwen", QWEN, "none_content", NONE, bos="")
    add("qwen", QWEN, "no_thinking", ONE, bos="", enable_thinking=False)
    add("qwen", QWEN, "thinking", ONE, bos="", enable_thinking=True)
    add("zephyr", ZEPHYR, "no_generation_prompt", SYSTALK, gen=False)
    for label, m in (("one", ONE), ("talk", TALK), ("none_content", NONE), ("unicode", UNICODE), ("longer", LONGER), ("no_messages", [])):
        if m:
            add("core", CORE, label, m)
        add("extra", EXTRA, label, m)
    add("strict", STRICT, "talk", TALK)
    add("strict", STRICT, "parts", PARTS)
    add("strict", STRICT, "mapping", [u({"text": "from a mapping"})], gen=False)
    add("strict", STRICT, "longer", LONGER)
    add("strict", STRICT, "unknown_role_error", OTHER, error=True)
    add("strict", STRICT, "no_messages_error", [], error=True)
    return out


CASES = cases()
