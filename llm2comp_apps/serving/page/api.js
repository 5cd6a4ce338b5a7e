// Asking the server. What fails comes as an ApiError with the server's own words.

import { $ } from "./dom.js";

export class ApiError extends Error {
  constructor(message, { status = 0, param = null, retry = null } = {}) {
    super(message);
    Object.assign(this, { status, param, retry });
  }
}

const KEY = "llm2comp-key";

export async function ask(path, body, signal) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...(key && { authorization: `Bearer ${key}` }), ...(body && { "content-type": "application/json" }) };
    let response;
    try {
      response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The server does not answer.");
    }
    if (response.status === 401) { await askForKey(); continue; }
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    const { message = `The server answers ${response.status}.`, param = null } = answer.error ?? {};
    throw new ApiError(message, { status: response.status, param, retry: Number(response.headers.get("retry-after")) || null });
  }
}

let asking = null;
function askForKey() {
  asking ??= new Promise((done) => {
    const dialog = $("key");
    dialog.showModal();
    dialog.onclose = () => { sessionStorage.setItem(KEY, $("key-text").value); asking = null; done(); };
  });
  return asking;
}

export const indexPath = (name) => `indexes/${encodeURIComponent(name)}`;

// A path would resolve the ids "." and "..".
export const documentPath = (name, id) => `${indexPath(name)}/documents?id=${encodeURIComponent(id)}`;

// Only the newest question counts: a new one ends the one before.
export class Latest {
  #running = null;

  async ask(path, body) {
    this.stop();
    const running = this.#running = new AbortController();
    try {
      return await ask(path, body, running.signal);
    } finally {
      if (this.#running === running) this.#running = null;
    }
  }

  stop() {
    this.#running?.abort();
    this.#running = null;
  }
}

export const isAbort = (error) => error.name === "AbortError";
