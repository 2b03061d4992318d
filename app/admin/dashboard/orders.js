// The list of orders: newest first, kept up to date run by run.

import { get } from "./api.js";
import { find, make } from "./dom.js";
import { amount, outcome, title, why } from "./words.js";

const rows = new Map();
let next = null;

export async function loadOrders() {
  rows.clear();
  find("orders").tBodies[0].replaceChildren();
  next = null;
  await loadOlder();
}

export async function loadOlder() {
  const query = new URLSearchParams({ limit: "50" });
  if (find("state").value) query.set("state", find("state").value);
  if (next) query.set("before", next);
  const page = await get(`/api/orders?${query}`);
  next = page.next;
  for (const run of page.orders) place(run, "append");
  find("older").hidden = next === null;
  find("none").hidden = rows.size > 0;
}

// A run that changed: its row is replaced where it stands, a new one comes first.
export function showRun(run) {
  const wanted = find("state").value;
  if (wanted && run.state !== wanted) {
    rows.get(run.run_id)?.remove();
    rows.delete(run.run_id);
  } else {
    place(run, "prepend");
  }
  find("none").hidden = rows.size > 0;
}

export function markChosen(runId) {
  for (const [id, row] of rows) row.setAttribute("aria-current", String(id === runId));
}

function place(run, where) {
  const row = rowOf(run);
  const old = rows.get(run.run_id);
  rows.set(run.run_id, row);
  if (!old) {
    find("orders").tBodies[0][where](row);
    return;
  }
  row.setAttribute("aria-current", old.getAttribute("aria-current") ?? "false");
  const hadFocus = old.contains(document.activeElement);
  old.replaceWith(row);
  if (hadFocus) row.querySelector("button").focus();
}

function rowOf(run) {
  const open = () => { location.hash = run.run_id; };
  return make("tr", { "data-run": run.run_id },
    make("td", {}, make("button", { class: "plain", type: "button", onclick: open }, title(run))),
    make("td", {}, run.supplier),
    make("td", { class: "number" }, run.order_id ? run.lines : ""),
    make("td", { class: "number" }, amount(run.total, run.currency)),
    make("td", {}, run.stage ?? run.failed_stage),
    make("td", { class: run.state }, outcome(run)),
    make("td", {}, why(run)));
}
