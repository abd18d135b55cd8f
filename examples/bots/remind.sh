#!/bin/sh
# Reminders: whoever says "!in 10m tea" gets "tea" as a reply ten minutes later (s, m, h or d).
#
#     chat bot --room '#ops' --nick remind -- ./remind.sh
#
# Needs jq. A reminder is a file in $REMIND_DIR until it was given, so none is forgotten when this
# or the host is started anew; one that was due meanwhile comes late.
set -eu

dir=${REMIND_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/chat-remind}
mkdir -p "$dir"

# Those who wait end with this.
trap 'trap "" TERM; kill 0' EXIT

# Waits in the background until the reminder in file $1 is due, and gives it.
wait_for() {
    (
        trap - EXIT
        left=$(($(jq .due "$1") - $(date +%s)))
        [ "$left" -le 0 ] || sleep "$left"
        jq -c '{room, reply_to, body}' "$1"
        rm "$1"
    ) < /dev/null &
}

for file in "$dir"/*; do
    [ -e "$file" ] && wait_for "$file"
done

while IFS= read -r line; do
    reminder=$(printf '%s\n' "$line" | jq -c '
        select(.type == "message" and .body)
        | (.body | capture("^!in (?<n>[0-9]{1,6})(?<unit>[smhd]) +(?<what>.+)$"; "m")) as $in
        | (.sent_at | sub("[.][0-9]+"; "") | fromdate) as $said
        | {
            due: ($said + ($in.n | tonumber) * {s: 1, m: 60, h: 3600, d: 86400}[$in.unit]),
            room,
            reply_to: .id,
            body: $in.what
        }')
    [ -n "$reminder" ] || continue
    file=$dir/$(printf '%s\n' "$reminder" | jq -r .reply_to)
    # A message that comes a second time is the same reminder.
    [ -e "$file" ] && continue
    printf '%s\n' "$reminder" > "$dir/.new"
    mv "$dir/.new" "$file"
    wait_for "$file"
    printf '%s\n' '{"react":"⏰"}'
done
