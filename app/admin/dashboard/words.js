// Says states, money and moments in words.

const OUTCOMES = {
  running: "running",
  needs_review: "needs review",
  completed: "completed",
  failed: "failed",
  cancelled: "cancelled",
};

export const outcome = (run) => OUTCOMES[run.state] ?? run.state;

export function why(run) {
  if (run.failure) return run.failure;
  if (run.summary) return run.summary;
  return run.review.map((doubt) => doubt.message).join(" ");
}

export const title = (run) =>
  run.kind === "receipt" ? `Receipt for ${run.number || run.order_id}` : run.document || run.number || run.run_id;

export function amount(value, currency = "") {
  if (value === null || value === undefined) return "";
  // Money arrives as text and stays exact: only trailing zeros beyond cents are dropped.
  const [whole, cents = ""] = String(value).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return `${grouped}.${cents.replace(/0+$/, "").padEnd(2, "0")} ${currency}`.trim();
}

export const quantity = (value) => (value === null || value === undefined ? "" : String(value).replace(/\.0+$/, ""));

export const moment = (iso) => (iso ? new Date(iso).toLocaleString() : "");

export function lasted(from, to) {
  if (!from || !to) return "";
  const seconds = (new Date(to) - new Date(from)) / 1000;
  return seconds < 10 ? `${seconds.toFixed(2)} s` : `${Math.round(seconds)} s`;
}
