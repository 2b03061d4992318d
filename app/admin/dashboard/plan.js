// What approving an order would do in the shop: read when it is shown, and approved exactly as shown.

import { get } from "./api.js";
import { make } from "./dom.js";
import { moment } from "./words.js";

let known = null; // the plan read last: of which run, at which of its entries

// The panel, and the buttons that need the plan. `approve(plan)` is given null where there is none.
export function planSection(run, { again, approve }) {
  const body = make("div", { "aria-live": "polite" });
  const buttons = make("div", { class: "actions" });
  const show = (plan, trouble) => {
    body.replaceChildren(...(plan ? planParts(plan) : [make("p", { class: "failed" }, trouble)]));
    buttons.replaceChildren(
      ...(plan && !plan.stops.length ? [button("approve", () => approve(plan))] : []),
      button("read the plan again", () => read({ fresh: true })),
      ...(plan ? [] : [button("approve without a plan", () => approve(null))]));
  };
  const read = async ({ fresh }) => {
    if (!fresh && known?.run === run.run_id && known.entry === run.entry) return show(known.plan);
    body.replaceChildren(make("p", {}, "Reading the shop…"));
    buttons.replaceChildren();
    try {
      const { plan } = await get(`/api/orders/${encodeURIComponent(run.run_id)}/plan?who=page`);
      known = { run: run.run_id, entry: run.entry, plan };
      show(plan);
    } catch (error) {
      known = null;
      show(null, error.message);
    }
  };
  read({ fresh: again });
  return make("section", { id: "plan" }, make("h3", {}, "What approving does in the shop"), body, buttons);
}

export function planParts(plan) {
  const reads = plan.approvedAt ? "As approved" : "As the shop is";
  return [
    make("p", { class: plan.stops.length ? "failed" : null }, make("strong", {}, plan.summary)),
    make("p", { class: "when" }, `${reads} at ${moment(plan.readAt)}.`),
    make("details", {}, make("summary", {}, `Product by product (${plan.items.length})`),
      make("ul", {}, ...plan.items.map((item) => make("li", {}, make("strong", {}, item.title), ` ${item.words}`,
        ...(item.variants.length ? [make("ul", {}, ...item.variants.map((one) => make("li", {}, one)))] : []))))),
  ];
}

const button = (text, onclick) => make("button", { type: "button", onclick }, text);
