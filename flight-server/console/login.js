// Who asks, where the server wants to know. The password is sent until the server gives something in its place, which is kept
// until the tab is closed, or the user logs out.

const KEPT = "lakebed-login";

/** The login of this tab. Tells of `change`, and of `late` where the user had not wanted to say at first. */
export class Login extends EventTarget {
  #dialog = document.querySelector("#login");
  #form = this.#dialog.querySelector("form");
  #said = this.#dialog.querySelector("[role=alert]");
  #kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  /** What was typed, until the server gives a bearer for it. */
  #typed = null;
  /** Those who wait for a login. */
  #waiting = null;
  /** Whether the user was asked and did not want to say. */
  isDeclined = false;

  constructor() {
    super();
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#dialog.querySelector("button[type=button]").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => {
      this.isDeclined ||= this.#waiting !== null;
      this.#settle((waiting) => waiting.reject(waiting.refusal));
    });
  }

  /** Whose questions these are; empty where nobody logged in. */
  get user() {
    return this.#kept?.user ?? "";
  }

  headers() {
    const authorization = this.#typed?.authorization ?? this.#kept?.bearer;
    return authorization ? { Authorization: authorization } : {};
  }

  /** Takes what the server gives in the place of a password, or of a bearer that gets old. */
  take(bearer) {
    if (!bearer) return;
    this.#kept = { bearer, user: this.#typed?.user ?? this.#kept?.user };
    this.#typed = null;
    sessionStorage.setItem(KEPT, JSON.stringify(this.#kept));
    this.dispatchEvent(new Event("change"));
    if (this.isDeclined) this.dispatchEvent(new Event("late"));
    this.isDeclined = false;
  }

  /** Asks the user, after the server refused what was sent; ends with the refusal where the user does not want to say. */
  async ask(refusal, sent) {
    // Meanwhile there is something else to send.
    if (this.headers().Authorization !== sent) return;
    this.#typed = null;
    if (!this.#waiting) {
      this.#waiting = { refusal, ...Promise.withResolvers() };
      this.#said.textContent = refusal.message;
      this.#dialog.showModal();
    }
    return this.#waiting.promise;
  }

  /** Forgets the login, and with the page all that was read by it. */
  leave() {
    sessionStorage.removeItem(KEPT);
    location.reload();
  }

  #submit() {
    const { user, password } = this.#form.elements;
    const pair = new TextEncoder().encode(`${user.value}:${password.value}`);
    this.#typed = { user: user.value || "a token", authorization: `Basic ${btoa(String.fromCharCode(...pair))}` };
    password.value = "";
    this.#settle((waiting) => waiting.resolve());
    this.#dialog.close();
  }

  #settle(how) {
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting) how(waiting);
  }
}
