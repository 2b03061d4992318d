// Ties the page together: reads once, then listens.

import { get, send } from "./api.js";
import { isBeingFilledIn, knowShops, showDetail, shownRun } from "./detail.js";
import { find, make, notice } from "./dom.js";
import { loadOlder, loadOrders, markChosen, showRun } from "./orders.js";
import { showTotals } from "./stages.js";

const trying = (act) => act().catch((error) => notice(error.message));

function chosen() {
  return decodeURIComponent(location.hash.slice(1)) || null;
}

// What the address names; somebody may have chosen from what an event has brought before the list was there.
function showFirst() {
  if (shownRun() === null) trying(() => showDetail(chosen(), { focus: true }));
  else markChosen(shownRun());
}

async function loadMerchants() {
  const { merchants } = await get("/api/merchants");
  knowShops(merchants);
  find("send").elements.merchant.replaceChildren(
    ...merchants.map((merchant) => make("option", { value: merchant.id }, `${merchant.name} (${merchant.id})`)));
}

async function sendDocument(event) {
  event.preventDefault();
  const form = find("send");
  await send("/api/orders", new FormData(form));
  notice(`${form.elements.file.files[0].name} is on its way.`);
  form.elements.file.value = "";
}

function listen() {
  const events = new EventSource("/api/events");
  let lost = false;
  events.addEventListener("open", () => {
    find("live").textContent = "live";
    // What happened while nobody listened was not told.
    if (lost) trying(loadOrders);
    lost = false;
  });
  events.addEventListener("error", () => {
    lost = true;
    find("live").textContent = "connection lost, trying again";
  });
  events.addEventListener("totals", (event) => showTotals(JSON.parse(event.data)));
  events.addEventListener("run", (event) => {
    const run = JSON.parse(event.data);
    showRun(run);
    if (run.run_id === shownRun() && !isBeingFilledIn()) trying(() => showDetail(run.run_id, { focus: false }));
  });
}

find("state").addEventListener("change", () => trying(loadOrders));
find("older").addEventListener("click", () => trying(loadOlder));
find("send").addEventListener("submit", (event) => trying(() => sendDocument(event)));
window.addEventListener("hashchange", () => trying(() => showDetail(chosen(), { focus: true })));

trying(loadMerchants);
trying(loadOrders).then(showFirst);
listen();
