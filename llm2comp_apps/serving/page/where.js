// The condition is a text that people see and edit; fields beside the hits only write into it.
//
// It is cut at every "and" that stands alone, into clauses. A clause of the form  field = value  or
// field in (values)  belongs to a field's list of values, one of the form  field >= value  or  field <= value  to
// its range. Anything else is somebody's own and is never touched.

const NAME = /^[^\W\d][\w-]*$/u;
const KEYWORDS = new Set(["and", "or", "not", "in", "like", "contains", "between", "is", "null", "true", "false"]);
const TOKEN = /'(?:[^']|'')*'|[<>!=]=|<>|[(),=<>]|(?:"(?:[^"]|"")*"|[^\s(),=<>!'"]+)+|\S/g;

export function tokens(text) {
  return [...text.matchAll(TOKEN)].map(([token]) => token);
}

// The clauses that are joined by "and", as they are spelled; one alone where an "or" stands outside parentheses.
export function clauses(text) {
  const parts = [];
  let depth = 0, between = false, begins = 0;
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    const word = token.toLowerCase();
    depth += (token === "(") - (token === ")");
    if (depth === 0 && word === "or") return [text.trim()];
    if (word === "between") between = true;
    if (depth === 0 && word === "and" && !between) {
      parts.push(text.slice(begins, index));
      begins = index + token.length;
    }
    if (word === "and") between = false;
  }
  return [...parts, text.slice(begins)].map((part) => part.trim()).filter(Boolean);
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

const inSingleQuotes = (token) => (/^".*"$/s.test(token) ? literal(token.slice(1, -1).replaceAll('""', '"')) : token);

// The clause's values if it is a list of this field, else null.
function valuesOf(clause, name) {
  const [field, operator, ...rest] = tokens(clause);
  if (field !== fieldName(name)) return null;
  if (operator === "=" && rest.length === 1) return rest.map(inSingleQuotes);
  if (operator?.toLowerCase() === "in" && rest[0] === "(" && rest.at(-1) === ")")
    return rest.slice(1, -1).filter((token) => token !== ",").map(inSingleQuotes);
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
