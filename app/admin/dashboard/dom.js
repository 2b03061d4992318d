// Builds elements. Every value goes in as text: documents are written by strangers.

export const find = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.map((child) => (child instanceof Node ? child : String(child ?? ""))));
  return element;
}

export function table(headings, rows) {
  const cell = (tag, value, numeric) => make(tag, { class: numeric ? "number" : null }, value);
  return make("div", { class: "wide" }, make("table", {},
    make("thead", {}, make("tr", {}, ...headings.map(([text, numeric]) => cell("th", text, numeric)))),
    make("tbody", {}, ...rows.map((values) =>
      make("tr", {}, ...values.map((value, at) => cell("td", value, headings[at][1]))))),
  ));
}

// The answer to a question; no when it is closed with Escape. One question after the other: a dialog is gone a moment
// before it tells so, and the next question would take that for its own answer.
let questions = Promise.resolve();

export function confirmed(question) {
  questions = questions.then(() => ask(question));
  return questions;
}

function ask(question) {
  const dialog = find("confirm");
  find("confirm-text").textContent = question;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

export function notice(text) {
  find("notice").textContent = text;
}
