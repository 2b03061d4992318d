// What approving an order would do in the shop: read when it is shown, and approved exactly as shown.

import { get } from "./api.js";
import { make } from "./dom.js";
import { moment } from "./words.js";

let known = null; // the plan read last: of which run, at which of its entries

// The panel, and the buttons that need the plan. `approve(plan)` is given null where there is none; `choose(product, said)`
// what a person says a product is that nobody could place: the number or address of one in the shop, or "new".
export function planSection(run, { again, approve, choose }) {
  const body = make("div", { "aria-live": "polite" });
  const buttons = make("div", { class: "actions" });
  const show = (plan, trouble) => {
    body.replaceChildren(...(plan ? planParts(plan, choose) : [make("p", { class: "failed" }, trouble)]));
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

// Who let the order into the shop, when, and with which plan.
export const approvals = (found) => make("ul", {}, ...found.map((one) =>
  make("li", {}, `${one.approved_by || "a rule"}, ${moment(one.approved_at)}: ${one.summary}`, ...byProduct(one.items))));

const planParts = (plan, choose) => [
  make("p", { class: plan.stops.length ? "failed" : null }, make("strong", {}, plan.summary)),
  make("p", {}, `As the shop was at ${moment(plan.readAt)}.`),
  ...byProduct(plan.items),
  ...plan.content.products.filter((product) => product.problem).map((product) => choice(product, choose)),
];

function choice(product, choose) {
  const field = make("input", {
    name: `is:${product.draft_id}`, required: true, placeholder: "number or address", "aria-label": `Number or address of what “${product.title}” is in the shop`,
  });
  const said = (event) => { event.preventDefault(); choose(product, field.value); };
  return make("form", { class: "choice", onsubmit: said },
    make("p", {}, make("strong", {}, product.title), ` ${product.problem}`),
    field, make("button", {}, "it is this product"), make("button", { type: "button", onclick: () => choose(product, "new") }, "it is a new product"));
}

function byProduct(items) {
  if (!items.length) return [];
  const variants = (item) => (item.variants.length ? [make("ul", {}, ...item.variants.map((one) => make("li", {}, one)))] : []);
  return [make("details", {}, make("summary", {}, `Product by product (${items.length})`),
    make("ul", {}, ...items.map((item) =>
      make("li", {}, make("strong", {}, item.title), ` ${item.words}`, ...variants(item)))))];
}

const button = (text, onclick) => make("button", { type: "button", onclick }, text);
