#!/bin/sh
# Commands from a room: whoever says "!uptime" gets what DIR/uptime prints as a reply.
#
#     chat bot --room '#ops' --nick ops -- ./commands.sh DIR
#
# Needs jq. DIR holds programs whose names are lower-case letters, digits and "-", and nothing else
# can be run. What stands behind the name is the program's one argument, as it was typed: whoever is
# in the room says what it is, so a program must not trust it. CHAT_FROM says who asks. "!help" lists
# the programs.
set -eu

cd "${1:?usage: commands.sh DIR}"

# Prints the first 8,000 bytes of standard input as a reply to message $1.
reply() {
    head -c 8000 | jq -Rsc --arg id "$1" '{
        reply_to: $id,
        body: (sub("\n+$"; "") | if . == "" then "(nothing was printed)" else . end)
    }'
}

programs() {
    for program in *; do
        case $program in
            *[!a-z0-9-]* | -*) ;;
            *) [ -f "$program" ] && [ -x "$program" ] && printf '!%s\n' "$program" ;;
        esac
    done
    return 0
}

while IFS= read -r line; do
    # The name, and everything behind it; nothing for what is no command.
    command=$(printf '%s\n' "$line" | jq -r '
        select(.type == "message" and .body)
        | .body | capture("^!(?<name>[a-z0-9][a-z0-9-]*)( +(?<rest>.*))?$"; "m")
        | "\(.name) \(.rest // "")"')
    [ -n "$command" ] || continue
    name=${command%% *}
    id=$(printf '%s\n' "$line" | jq -r .id)
    CHAT_FROM=$(printf '%s\n' "$line" | jq -r .from)
    export CHAT_FROM
    if [ -f "$name" ] && [ -x "$name" ]; then
        {
            "./$name" "${command#* }" < /dev/null 2>&1 || echo "($name ended with $?)"
        } | reply "$id"
    elif [ "$name" = help ]; then
        programs | reply "$id"
    fi
done
