// What is asked here, as a command for a terminal.

const quoted = (text) => (/^[\w./-][\w./=-]*$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

// hits: how many are shown. Null where nothing is asked for: a terminal has no search without a query.
export function command(state, hits) {
  if (!state.like && !state.q.trim()) return null;
  const parts = ["llm2comp", "search", "--index", quoted(`${state.index}.index`)];
  const dashed = !state.like && state.q.startsWith("-");  // what begins like an option goes last
  if (state.like) parts.push("--like", quoted(state.like.id));
  else if (!dashed) parts.push(quoted(state.q));
  if (!state.like && state.mode !== "hybrid") parts.push(state.mode === "ltr" ? "--rerank" : "--mode", state.mode);
  if (state.where.trim()) parts.push("--where", quoted(state.where.trim()));
  parts.push("-k", String(hits));
  if (dashed) parts.push("--", quoted(state.q));
  return parts.join(" ");
}
