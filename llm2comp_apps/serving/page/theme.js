// Before anything is drawn, so that nothing flashes: the colours that were chosen here, else those of the system.
{
  let chosen = null;
  try { chosen = localStorage.getItem("llm2comp-theme"); } catch { /* a browser may keep nothing */ }
  document.documentElement.dataset.theme = chosen ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}
