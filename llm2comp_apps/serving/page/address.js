// The question as the end of the page's address, so that it can be kept, sent, and gone back to.

const NAMES = ["index", "q", "where", "mode", "like", "topic", "shape", "doc"];

// values: texts by name; what is empty is left out.
export const written = (values) =>
  `#${new URLSearchParams(NAMES.filter((name) => values[name]).map((name) => [name, values[name]]))}`;

export function read() {
  const found = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(NAMES.map((name) => [name, found.get(name) ?? ""]));
}

export const shapeText = (corners) => corners.map((corner) => corner.join(".")).join("_");

// Corners as they were written; null where a text is no shape.
export function shapeOf(text) {
  const corners = text.split("_").map((corner) => corner.split(".").map(Number));
  const right = corners.length > 2 && corners.every((corner) => corner.length === 2 && corner.every(Number.isFinite));
  return right ? corners : null;
}
