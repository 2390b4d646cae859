// The certificate: what this device found when it checked and measured the bundle on itself.

import { foreign, gigabytes, listed, make, moment, percent, rounded, whole } from "./page-dom.js";

// certificate: null when there is none; about: what stands at `/`, which tells why.
export function showCertificate(place, certificate, about) {
  if (certificate === null) {
    place.replaceChildren(make("p", { class: "note" }, whyNone(about)));
    return;
  }
  const checks = certificate.checks ?? [];
  const failed = checks.filter((check) => !check.passed).length;
  const unknown = typeof certificate.accuracy === "number" ? "" : "; accuracy is not known";
  const verdict = failed
    ? `Failed: ${failed} of ${checks.length} checks`
    : `Passed: all ${checks.length} checks${unknown}`;
  place.replaceChildren(
    make("p", { class: failed ? "verdict failed" : "verdict passed" }, verdict),
    make("div", { class: "columns" }, facts(certificate), tableOfChecks(checks), speed(certificate)),
  );
}

function whyNone(about) {
  if (about.state === "starting") return "Not made yet: the device is checking and measuring itself.";
  const policy = about.certificate?.policy;
  return policy === "off" ? "None: this server was started with certificates off." : "None was made.";
}

function facts(found) {
  const list = make("dl", { class: "facts stacked" });
  listed(list, [
    ["Issued", moment(found.issued_at)],
    ["Device", device(found.fingerprint ?? {})],
    ["GPU", found.gpu?.name ?? found.fingerprint?.gpu],
    ["Serves", serves(found)],
    ["Accuracy", accuracy(found)],
    ["Cold start", found.cold_start_s === null ? "" : `${rounded(found.cold_start_s)} s`],
    ["Peak memory", found.peak_memory_bytes ? gigabytes(found.peak_memory_bytes) : ""],
    ["Energy", energy(found)],
    ["Throttled", found.throttled_periods ? `in ${whole(found.throttled_periods)} periods` : ""],
    ["Signed with", String(found.key ?? "").slice(0, 16)],
  ]);
  return make("div", {}, make("h3", {}, "What and where"), list);
}

function serves(found) {
  if ((found.checks ?? []).some((check) => !check.passed)) return `nothing: a check failed for ${found.precision}`;
  return `${found.precision}, chosen by the ${found.chosen_by}; ${found.engine}`;
}

function device(print) {
  const limit = print.memory_limit_bytes ?? print.memory_bytes;
  const cpus = `${print.cpu_quota ?? print.cpus_allowed} of ${print.cores} CPUs`;
  return [print.cpu_model || print.architecture, cpus, limit ? gigabytes(limit) : ""].filter(Boolean).join(", ");
}

function accuracy(found) {
  if (found.accuracy === null || found.accuracy === undefined)
    return "not known: the bundle has no labelled images, so only numerics were checked";
  const range = `95 % interval ${percent(found.accuracy_low)} to ${percent(found.accuracy_high)}`;
  const measure = found.measure ?? "top-1";
  const ranked = typeof found.mean_average_precision === "number" ? `, mAP ${percent(found.mean_average_precision)},` : "";
  return `${measure} ${percent(found.accuracy)}${ranked} of ${whole(found.images)} held-out pictures (${range})`;
}

function energy(found) {
  if (typeof found.joules_per_picture !== "number") return found.energy;
  return `${rounded(found.joules_per_picture * 1000)} mJ a picture, by ${found.energy}`;
}

function tableOfChecks(checks) {
  const rows = checks.map((check) => [
    make("span", { class: check.passed ? "mark passed" : "mark failed" }, check.passed ? "passed" : "failed"),
    make(
      "div",
      {},
      make("strong", {}, foreign(check.name)),
      make("div", { class: "note" }, foreign(check.found)),
      check.passed ? "" : make("div", {}, "expected ", foreign(check.expected)),
    ),
  ]);
  return make("div", {}, make("h3", {}, "Checks"), table(["Result", "Check, and what was found"], rows));
}

function speed(found) {
  const latencies = (found.scenarios ?? []).map((one) => [
    make(
      "div",
      {},
      foreign(one.scenario),
      one.valid ? "" : make("div", { class: "note" }, "Does not count: ", foreign(one.note)),
    ),
    ...(one.percentiles_ms ?? []).map(rounded),
    whole(one.throughput_per_s),
  ]);
  const tried = (found.candidates ?? []).map((one) => [
    make("div", {}, foreign(one.precision), make("div", { class: "note" }, foreign(one.verdict))),
    rounded(one.latency_ms),
    percent(one.accuracy),
  ]);
  return make(
    "div",
    {},
    make("h3", {}, "Latency, ms (MLPerf LoadGen)"),
    latencies.length
      ? table(["Scenario", "p50", "p90", "p99", "per s"], latencies)
      : make("p", { class: "note" }, "Not measured."),
    ...(tried.length
      ? [make("h3", {}, "Candidates on this device"), table(["Precision", "ms", "Accuracy"], tried)]
      : []),
  );
}

function table(titles, rows) {
  const head = make("thead", {}, make("tr", {}, ...titles.map((title) => make("th", { scope: "col" }, title))));
  const body = rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, cell))));
  return make("table", {}, head, make("tbody", {}, ...body));
}
