// What is asked here, as a command for a terminal.

const quoted = (text) => (/^[\w./=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

export function command(state) {
  const parts = ["llm2comp", "search", "--index", quoted(`${state.index}.index`)];
  if (state.like) parts.push("--like", quoted(state.like.id));
  else parts.push(quoted(state.q));
  if (!state.like && state.mode !== "hybrid") parts.push("--mode", state.mode);
  if (state.where.trim()) parts.push("--where", quoted(state.where.trim()));
  return parts.join(" ");
}
