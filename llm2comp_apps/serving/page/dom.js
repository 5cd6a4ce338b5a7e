// Elements without innerHTML: whatever a document contains is text.

export const $ = (id) => document.getElementById(id);
export const number = new Intl.NumberFormat("en");

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

let fading;
export function toast(text) {
  const box = $("toast");
  box.textContent = text;
  box.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => { box.hidden = true; }, 2600);
}
