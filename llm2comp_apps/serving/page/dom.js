// Elements without innerHTML: whatever a document contains is text.

export const $ = (id) => document.getElementById(id);
export const number = new Intl.NumberFormat("en");
export const many = (count, what) => `${number.format(count)} ${what}${count === 1 ? "" : "s"}`;
export const short = (text, most = 80) => (text.length > most ? `${Array.from(text).slice(0, most).join("")}…` : text);

// h("button.main", { onclick }, "Go", other): tag with classes, properties, children (strings, elements, null).
export function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key in made && !key.startsWith("aria")) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// A dot in a topic's colour; it holds both, so that nothing is drawn again when dark becomes light.
export function dotOf({ light, dark, name }) {
  const made = h("span.dot", { title: name });
  made.style.setProperty("--in-light", light);
  made.style.setProperty("--in-dark", dark);
  return made;
}

// A text with the ranges that matched marked. Ranges count code points, as Python does; JavaScript counts halves.
export function marked(text, ranges) {
  const letters = Array.from(text), parts = [];
  let last = 0;
  for (const [start, end] of ranges) {
    parts.push(letters.slice(last, start).join(""), h("mark", {}, letters.slice(start, end).join("")));
    last = end;
  }
  return [...parts, letters.slice(last).join("")];
}

// Into the clipboard; browsers offer the newer way only to https and to this machine. False where neither works.
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* the older way, then */ }
  const before = document.activeElement, box = h("textarea.hidden", { value: text, readOnly: true });
  document.body.append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  before?.focus({ preventScroll: true });
  return done;
}

let fading;
export function toast(text) {
  const box = $("toast");
  box.textContent = text;
  box.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => { box.hidden = true; }, 2600);
}
