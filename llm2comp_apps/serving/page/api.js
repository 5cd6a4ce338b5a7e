// Asking the server. What fails comes as an ApiError with the server's own words.

import { $ } from "./dom.js";

export class ApiError extends Error {
  constructor(message, { status = 0, param = null, retry = null } = {}) {
    super(message);
    Object.assign(this, { status, param, retry });
  }
}

const KEY = "llm2comp-key";
let key = "";
try { key = sessionStorage.getItem(KEY) ?? ""; } catch { /* a browser may keep nothing */ }

const isKey = (text) => /^[\x21-\x7e]+$/.test(text);  // no header can hold anything else

export async function ask(path, body, signal) {
  for (;;) {
    const sent = key;
    const headers = { ...(isKey(sent) && { authorization: `Bearer ${sent}` }), ...(body && { "content-type": "application/json" }) };
    let response;
    try {
      response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The server does not answer.");
    }
    if (response.status === 401) {
      if (sent === key) await askForKey();  // else another question has asked for it in the meantime
      continue;
    }
    const answer = await response.json().catch((error) => { if (isAbort(error)) throw error; return null; });
    if (response.ok && answer) return answer;
    if (response.ok) throw new ApiError("The server's answer broke off.");
    const { message = `The server answers ${response.status}.`, param = null } = answer?.error ?? {};
    throw new ApiError(message, { status: response.status, param, retry: Number(response.headers.get("retry-after")) || null });
  }
}

let asking = null;
function askForKey() {
  asking ??= new Promise((done, refuse) => {
    const dialog = $("key");
    $("key-wrong").hidden = !key;
    dialog.returnValue = "";
    dialog.showModal();
    $("key-text").select();
    dialog.onclose = () => {
      asking = null;
      if (dialog.returnValue !== "given") { refuse(new ApiError("This server wants a key; load the page again to give it.")); return; }
      key = $("key-text").value.trim();
      try { sessionStorage.setItem(KEY, key); } catch { /* it is forgotten with the page */ }
      done();
    };
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
