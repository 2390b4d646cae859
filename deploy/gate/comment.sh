#!/usr/bin/env bash
# Comments a gate's Markdown summary on the pull or merge request that this job runs for, or updates the comment of an earlier run.
#   deploy/gate/comment.sh NAME [SUMMARY]
# NAME: the model's; SUMMARY: gate-report/summary.md. Needs curl and jq, and a token that may comment: GITHUB_TOKEN on GitHub,
# GATE_COMMENT_TOKEN (a project access token with the scope api) on GitLab. Never fails a job: a verdict stands without a comment.
set -uo pipefail
warn() {
    if [ -n "${GITHUB_ACTIONS:-}" ]; then echo "::warning::comment.sh: $1"; else echo "warning: comment.sh: $1" >&2; fi
    exit 0
}
name=${1:-} summary=${2:-gate-report/summary.md}
[ -n "$name" ] || { echo "comment.sh: expected NAME [SUMMARY]" >&2; exit 2; }
[ -r "$summary" ] || warn "no summary at $summary, so no comment"
for command in curl jq; do command -v "$command" >/dev/null || warn "no $command here, so no comment: apt-get install $command"; done
if [ -n "${GITHUB_ACTIONS:-}" ]; then
    number=$(jq -r '.pull_request.number // .number // empty' "${GITHUB_EVENT_PATH:-/dev/null}" 2>/dev/null)
    [ -n "$number" ] || warn "this job runs for no pull request, so no comment"
    token=${GITHUB_TOKEN:-} header="Authorization: Bearer" needs=GITHUB_TOKEN verb=PATCH
    comments="${GITHUB_API_URL:-https://api.github.com}/repos/$GITHUB_REPOSITORY/issues/$number/comments"
    one="${GITHUB_API_URL:-https://api.github.com}/repos/$GITHUB_REPOSITORY/issues/comments"
else
    [ -n "${CI_MERGE_REQUEST_IID:-}" ] || warn "this job runs for no merge request, so no comment"
    token=${GATE_COMMENT_TOKEN:-} header="PRIVATE-TOKEN:" needs=GATE_COMMENT_TOKEN verb=PUT
    comments="$CI_API_V4_URL/projects/$CI_PROJECT_ID/merge_requests/$CI_MERGE_REQUEST_IID/notes"
    one=$comments
fi
[ -n "$token" ] || warn "no token in $needs, so no comment"

# the token goes to curl by its standard input: arguments are seen by every process of the machine
ask() { curl --silent --show-error --fail --max-time 30 --header @- "$@" <<<"$header $token"; }

marker="<!-- edge-toolchain gate: $name -->"
earlier=$(ask "$comments?per_page=100" | jq -r --arg marker "$marker" '[.[] | select(.body | startswith($marker)) | .id][0] // empty') ||
    warn "the comments of this request cannot be read, so no comment"
body=$(mktemp)
trap 'rm -f "$body"' EXIT
jq -n --arg marker "$marker" --rawfile text "$summary" '{body: ($marker + "\n" + $text)}' >"$body"
if [ -n "$earlier" ]; then where=(--request "$verb" "$one/$earlier"); else where=("$comments"); fi
ask --header "Content-Type: application/json" --data @"$body" --output /dev/null "${where[@]}" || warn "the comment was not taken"
