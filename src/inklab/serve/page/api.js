// Requests to the server: errors as one line, retries of errors that pass, and at most one request of a kind at a time.

/** What the server, or its absence, has to say. `temporary`: a retry may succeed. */
export class ApiError extends Error {
  constructor(message, { temporary = false } = {}) {
    super(message);
    this.temporary = temporary;
  }
}

let pending = 0; // requests without a response

function countPending(change) {
  pending += change;
  document.getElementById("main").ariaBusy = String(pending > 0);
}

/** Request JSON: GET, or POST if there is a body. Until the response is there, the page is marked as busy. */
export async function request(path, body, signal) {
  countPending(1);
  try {
    return await fetchJson(path, body, signal);
  } finally {
    countPending(-1);
  }
}

async function fetchJson(path, body, signal) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, { ...options, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer. Is inklab serve still running?", { temporary: true });
  }
  const json = await response.json().catch(() => null);
  if (response.ok && json !== null) return json;
  const temporary = [429, 502, 503, 504].includes(response.status);
  const message = typeof json?.error === "string" ? json.error : `The server responded with status ${response.status}.`;
  throw new ApiError(message, { temporary });
}

/**
 * One request in flight, and the latest one next; those in between are dropped.
 *
 * So a hand that draws, or a slider that moves, gets responses as fast as the server can give them, and never late ones.
 */
export class LatestOnly {
  /** @param onResponse called with (response, body); @param onError with an ApiError, or null when it is over. */
  constructor(path, onResponse, onError) {
    Object.assign(this, { path, onResponse, onError, next: null, flight: null, delay: 0, timer: 0 });
  }

  request(body) {
    this.next = body;
    if (!this.flight && !this.timer) this._send();
  }

  /** Drop all requests: no response is handled any more. */
  cancel() {
    this.next = null;
    clearTimeout(this.timer);
    this.timer = 0;
    this.flight?.abort();
    this.flight = null;
  }

  /** Retry now what waits for an error to pass. */
  retry() {
    if (!this.timer) return;
    clearTimeout(this.timer);
    this.timer = 0;
    this._send();
  }

  async _send() {
    const body = this.next;
    if (body === null) return;
    this.next = null;
    const flight = (this.flight = new AbortController());
    try {
      const response = await request(this.path, body, flight.signal);
      if (this.flight !== flight) return;
      this.delay = 0;
      this.onError(null);
      this.onResponse(response, body);
    } catch (error) {
      if (this.flight !== flight) return;
      this._fail(error, body);
    }
    this.flight = null;
    if (this.next !== null && !this.timer) this._send();
  }

  _fail(error, body) {
    if (!(error instanceof ApiError)) throw error;
    this.onError(error);
    if (!error.temporary) return;
    this.next ??= body;
    this.delay = Math.min(8000, Math.max(500, 2 * this.delay));
    this.timer = setTimeout(() => this.retry(), this.delay);
  }
}

/** Where the page shows errors, with a button that retries. */
export class ErrorList {
  constructor(element, button) {
    Object.assign(this, { element, button, errors: new Map() });
    button.addEventListener("click", () => this.errors.forEach((_, source) => source.retry?.()));
  }

  /** @param source what failed, such as a LatestOnly; null as error: it is over. */
  show(source, error) {
    if (error) this.errors.set(source, error);
    else this.errors.delete(source);
    const first = [...this.errors.values()][0];
    this.element.hidden = !first;
    if (first && this.element.firstChild.textContent !== first.message) this.element.firstChild.textContent = first.message;
    this.button.hidden = !first?.temporary;
  }
}
