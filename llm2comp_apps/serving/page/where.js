// The condition is a text that people see and edit; fields beside the hits only write into it.
//
// It is cut at every "and" that stands alone, into clauses. A clause of the form  field = value  or
// field in (values)  belongs to a field's list of values, one of the form  field >= value  or  field <= value  to
// its range. Anything else is somebody's own and is never touched.

const NAME = /^[^\W\d][\w-]*$/u;
const KEYWORDS = new Set(["and", "or", "not", "in", "like", "contains", "between", "is", "null", "true", "false"]);
const TOKEN = /\s*('(?:[^']|'')*'|"(?:[^"]|"")*"|[<>!=]=|<>|[(),=<>]|[^\s(),=<>!'"]+|\S)/gy;

export function tokens(text) {
  return [...text.matchAll(TOKEN)].map((found) => found[1]);
}

// The clauses that are joined by "and"; one alone where the text has an "or" outside parentheses.
export function clauses(text) {
  const parts = [[]];
  let depth = 0, between = false;
  for (const token of tokens(text)) {
    const word = token.toLowerCase();
    depth += (token === "(") - (token === ")");
    if (depth === 0 && word === "or") return [text.trim()];
    if (word === "between") between = true;
    if (depth === 0 && word === "and" && !between) parts.push([]);
    else parts.at(-1).push(token);
    if (word === "and") between = false;
  }
  return parts.filter((part) => part.length).map(spelled);
}

function spelled(part) {
  return part.join(" ").replace(/\( /g, "(").replace(/ \)/g, ")").replace(/ ,/g, ",").replace(/\s*\.\s*/g, ".");
}

export const joined = (parts) =>
  parts.map((part) => (parts.length > 1 && hasOr(part) ? `(${part})` : part)).join(" and ");

function hasOr(part) {
  let depth = 0;
  return tokens(part).some((token) => {
    depth += (token === "(") - (token === ")");
    return depth === 0 && token.toLowerCase() === "or";
  });
}

export const fieldName = (name) =>
  name.split(".").map((part) => (NAME.test(part) && !KEYWORDS.has(part.toLowerCase()) ? part : `"${part}"`)).join(".");

export const literal = (value) =>
  typeof value === "string" ? `'${value.replaceAll("'", "''")}'` : String(value);

// The clause's values if it is a list of this field, else null.
function valuesOf(clause, name) {
  const [field, operator, ...rest] = tokens(clause);
  if (field !== fieldName(name)) return null;
  if (operator === "=" && rest.length === 1) return rest;
  if (operator?.toLowerCase() === "in" && rest[0] === "(" && rest.at(-1) === ")")
    return rest.slice(1, -1).filter((token) => token !== ",");
  return null;
}

export function chosen(text, name) {
  return clauses(text).flatMap((clause) => valuesOf(clause, name) ?? []);
}

// The text with a value of a field taken in, or taken out if it was in.
export function toggled(text, name, value) {
  const own = literal(value), parts = clauses(text);
  const at = parts.findIndex((clause) => valuesOf(clause, name));
  const before = at < 0 ? [] : valuesOf(parts[at], name);
  const values = before.includes(own) ? before.filter((each) => each !== own) : [...before, own];
  const clause = values.length > 1 ? `${fieldName(name)} in (${values.join(", ")})` : `${fieldName(name)} = ${values[0]}`;
  if (at < 0) parts.push(clause);
  else if (values.length) parts[at] = clause;
  else parts.splice(at, 1);
  return joined(parts);
}

const bound = (clause, name, operator) => {
  const [field, sign, value, ...rest] = tokens(clause);
  return field === fieldName(name) && sign === operator && !rest.length ? value : null;
};

export function range(text, name) {
  const find = (operator) => clauses(text).map((clause) => bound(clause, name, operator)).find((value) => value !== null);
  return [find(">=") ?? "", find("<=") ?? ""];
}

export function withRange(text, name, low, high) {
  const parts = clauses(text).filter((clause) => bound(clause, name, ">=") === null && bound(clause, name, "<=") === null);
  if (low !== "") parts.push(`${fieldName(name)} >= ${low}`);
  if (high !== "") parts.push(`${fieldName(name)} <= ${high}`);
  return joined(parts);
}
