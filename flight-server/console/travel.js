// Time travel: the version or the time that all questions are asked as of.

import { element, grouped } from "./elements.js";

/** So many versions are offered by name; the slider has all. */
const OFFERED = 100;

const VERSIONS = `SELECT version, time, events FROM lakebed.versions ORDER BY version DESC LIMIT ${OFFERED}`;

/** The slider and the field beside it. */
export class Travel {
  #lake;
  #form = document.querySelector("#travel");
  #slider = document.querySelector("#slider");
  #field = document.querySelector("#as-of");
  #offered = document.querySelector("#versions");
  #toNewest = document.querySelector("#to-newest");

  constructor(lake) {
    this.#lake = lake;
    this.#slider.addEventListener("input", () => (this.#field.value = this.#slid()));
    this.#slider.addEventListener("change", () => lake.travelTo(this.#slid()));
    this.#field.addEventListener("change", () => lake.travelTo(this.#field.value.trim()));
    this.#field.addEventListener("focus", () => this.#offer());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      lake.travelTo(this.#field.value.trim());
    });
    this.#toNewest.addEventListener("click", () => {
      lake.travelTo("");
      this.#field.focus();
    });
    lake.addEventListener("newest", () => this.#slide());
    lake.addEventListener("travel", () => {
      this.#field.value = lake.asOf;
      this.#toNewest.hidden = !lake.asOf;
      document.body.classList.toggle("earlier", Boolean(lake.asOf));
      this.#slide();
    });
  }

  /** Shows which version a time came to. */
  arrived(version) {
    if (this.#lake.asOf && version) this.#slider.value = version;
  }

  /** The version under the slider; none at its right end, which moves on with the lake. */
  #slid() {
    return this.#slider.value === this.#slider.max ? "" : this.#slider.value;
  }

  #slide() {
    const { asOf, newest } = this.#lake;
    this.#slider.max = newest ?? 0;
    this.#slider.disabled = !newest;
    if (!asOf) this.#slider.value = this.#slider.max;
    else if (/^\d+$/.test(asOf)) this.#slider.value = asOf;
  }

  /** The last versions, for the field; where they may not be read, it is typed into. */
  async #offer() {
    const versions = await this.#lake.list(VERSIONS, { asOf: "" }).catch(() => []);
    const option = ({ version, time, events }) =>
      element("option", { value: version, label: `${version} – ${time.split(".")[0]}, ${grouped(events)} events` });
    this.#offered.replaceChildren(...versions.map(option));
  }
}
