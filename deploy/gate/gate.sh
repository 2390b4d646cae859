#!/usr/bin/env bash
# The gate in CI: fails the job when a release regressed, warns when it is inconclusive, shows the summary where CI shows one.
#   deploy/gate/gate.sh CANDIDATE NAME [flags of `toolchain gate`]
# CANDIDATE: an image's tag or a bundle's folder; NAME: the model's. The report is written to $REPORT, gate-report.
# INCONCLUSIVE=3 keeps exit status 3 for inconclusive or not comparable (GitLab: allow_failure: exit_codes: 3); else 0.
set -uo pipefail
if [ -z "${1:-}" ] || [ -z "${2:-}" ]; then
    echo "gate.sh: expected CANDIDATE NAME [flags of toolchain gate]; or: make gate CANDIDATE=… NAME=…" >&2
    exit 2
fi
candidate=$1 name=$2
shift 2
folder=${REPORT:-gate-report}
toolchain=$(command -v toolchain || echo "$(dirname "$0")/../../.venv/bin/toolchain")

"$toolchain" gate "$candidate" "$@"
status=$?
# A usage error (2) or a failure leaves no verdict to report on
if [ "$status" -le 3 ] && [ "$status" -ne 2 ] && "$toolchain" report "$name" --out="$folder"; then
    [ -z "${GITHUB_STEP_SUMMARY:-}" ] || cat "$folder/summary.md" >>"$GITHUB_STEP_SUMMARY"
fi
if [ "$status" -eq 3 ]; then
    words="the gate is inconclusive on $candidate, or cannot compare it: see the table"
    if [ -n "${GITHUB_ACTIONS:-}" ]; then echo "::warning::$words"; else echo "warning: $words" >&2; fi
    [ -z "${UNSURE:-}" ] || echo "gate.sh: UNSURE is now INCONCLUSIVE; the old spelling will not work in the next release" >&2
    status=${INCONCLUSIVE:-${UNSURE:-0}}
fi
exit "$status"
