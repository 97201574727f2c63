// Columns of Arrow batches as texts, as SQL writes them. The types are those that the server sends to every client:
// views, dictionaries, large and unsigned types are not among them.

import { Refusal } from "./refusal.js";

const DAY = 86_400_000n;
const PER_SECOND = [1n, 1_000n, 1_000_000n, 1_000_000_000n];

const INT = 2;
const FLOATING_POINT = 3;
const DECIMAL = 7;

/** By Arrow's numbers for kinds of types. */
const READERS = {
  1: () => ({ text: () => null }),
  [INT]: integers,
  [FLOATING_POINT]: floats,
  4: (field, parts) => lengthy(parts, hexadecimal),
  5: (field, parts) => lengthy(parts, utf8),
  6: booleans,
  [DECIMAL]: decimals,
  8: dates,
  9: times,
  10: timestamps,
  11: intervals,
  12: (field, parts) => lists(field, parts, list),
  13: structs,
  15: bytes,
  17: (field, parts) => lists(field, parts, map),
  18: durations,
};

/** What people are shown of a column: its name, its type in SQL, whether it is a number. */
export function describe({ name, kind, metadata }) {
  const said = (key) => metadata[`ARROW:FLIGHT:SQL:${key}`];
  const [type, precision, scale] = ["TYPE_NAME", "PRECISION", "SCALE"].map(said);
  const isNumber = [INT, FLOATING_POINT, DECIMAL].includes(kind);
  return { name, type: precision ? `${type}(${precision}, ${scale})` : (type ?? ""), isNumber };
}

/**
 * A reader of one column of a batch.
 *
 * @param field what the schema says of the column
 * @param parts where the batch's nodes and buffers are taken from, in their order, and its body
 * @returns {{text: (row: number) => string|null, isQuoted: boolean}} `isQuoted` where JSON writes the texts in quotes
 */
export function columnReader(field, parts) {
  const reader = READERS[field.kind];
  if (!reader || field.isDictionary) {
    const message = `the console has no place for column '${field.name}', a ${describe(field).type}`;
    throw new Refusal(message, { hint: "CAST it to VARCHAR" });
  }
  parts.nodes.next();
  return reader(field, parts);
}

/** The next buffer: where it begins, and its length in bytes. */
function buffer({ buffers }) {
  return buffers.next().value;
}

/** Tells which rows are not NULL; a buffer that is left out says that all are. */
function validity(parts) {
  const [start, length] = buffer(parts);
  return (row) => length === 0 || bit(parts.body, start, row);
}

function bit(view, start, row) {
  return ((view.getUint8(start + (row >> 3)) >> (row & 7)) & 1) === 1;
}

/** A reader of rows that may be NULL. */
function nullable(isThere, read, isQuoted = false) {
  return { text: (row) => (isThere(row) ? read(row) : null), isQuoted };
}

/** Values of so many bytes each. */
function fixed(parts, bytes, read, isQuoted) {
  const isThere = validity(parts);
  const [start] = buffer(parts);
  return nullable(isThere, (row) => read(parts.body, start + row * bytes), isQuoted);
}

function whole(view, at, bits) {
  return bits === 64 ? view.getBigInt64(at, true) : BigInt(view[`getInt${bits}`](at, true));
}

function integers({ type }, parts) {
  return fixed(parts, type.int(0) / 8, (view, at) => String(whole(view, at, type.int(0))));
}

function floats({ type }, parts) {
  return type.short(0) === 2
    ? fixed(parts, 8, (view, at) => String(view.getFloat64(at, true)))
    : fixed(parts, 4, (view, at) => shortest(view.getFloat32(at, true)));
}

/** The shortest text of a number of 32 bits that is this number and no other. */
function shortest(number) {
  const digits = [6, 7, 8].find((digits) => Math.fround(number.toPrecision(digits)) === number) ?? 9;
  return String(Number(number.toPrecision(digits)));
}

function booleans(field, parts) {
  const isThere = validity(parts);
  const [start] = buffer(parts);
  return nullable(isThere, (row) => String(bit(parts.body, start, row)));
}

function decimals({ type }, parts) {
  const [scale, words] = [type.int(1), type.int(2, 128) / 64];
  return fixed(parts, words * 8, (view, at) => {
    let value = view.getBigInt64(at + (words - 1) * 8, true);
    for (let word = words - 2; word >= 0; word -= 1) value = (value << 64n) | view.getBigUint64(at + word * 8, true);
    return pointed(value, scale);
  });
}

/** A number with so many of its digits behind the point. */
function pointed(value, scale) {
  if (scale <= 0) return String(value * 10n ** BigInt(-scale));
  const digits = String(value < 0n ? -value : value).padStart(scale + 1, "0");
  return `${value < 0n ? "-" : ""}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

function dates({ type }, parts) {
  return type.short(0, 1) === 0
    ? fixed(parts, 4, (view, at) => day(whole(view, at, 32) * DAY), true)
    : fixed(parts, 8, (view, at) => day(whole(view, at, 64)), true);
}

/** The day of an instant in milliseconds; those that a browser's calendar does not reach are counted from 1970. */
function day(milliseconds) {
  const date = new Date(Number(milliseconds));
  return Number.isNaN(date.getTime()) ? `day ${milliseconds / DAY}` : date.toISOString().split("T")[0];
}

function times({ type }, parts) {
  const [unit, bits] = [type.short(0, 1), type.int(1, 32)];
  return fixed(parts, bits / 8, (view, at) => clock(whole(view, at, bits), unit), true);
}

/** A time of day with as much of its fraction as there is. */
function clock(value, unit) {
  const passed = Number(value / PER_SECOND[unit]);
  const parts = [Math.floor(passed / 3600), Math.floor(passed / 60) % 60, passed % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":") + fraction(value, unit);
}

function fraction(value, unit) {
  const digits = String(value % PER_SECOND[unit]).padStart(3 * unit, "0").replace(/0+$/, "");
  return digits && `.${digits}`;
}

function timestamps({ type }, parts) {
  const [unit, zone] = [type.short(0), type.text(1) ? "Z" : ""];
  const ofDay = 86_400n * PER_SECOND[unit];
  const read = (view, at) => {
    const value = whole(view, at, 64);
    const inDay = ((value % ofDay) + ofDay) % ofDay;
    return `${day(((value - inDay) / ofDay) * DAY)} ${clock(inDay, unit)}${zone}`;
  };
  return fixed(parts, 8, read, true);
}

/** Months, days and nanoseconds: the server sends no others. */
function intervals(field, parts) {
  const read = (view, at) => {
    const counts = [[whole(view, at, 32), "months"], [whole(view, at + 4, 32), "days"]];
    const words = counts.filter(([count]) => count !== 0n).map(([count, name]) => `${count} ${name}`);
    const nanoseconds = whole(view, at + 8, 64);
    return nanoseconds === 0n && words.length > 0 ? words.join(" ") : [...words, seconds(nanoseconds, 3)].join(" ");
  };
  return fixed(parts, 16, read, true);
}

function durations({ type }, parts) {
  return fixed(parts, 8, (view, at) => seconds(whole(view, at, 64), type.short(0, 1)), true);
}

function seconds(value, unit) {
  const size = value < 0n ? -value : value;
  return `${value < 0n ? "-" : ""}${size / PER_SECOND[unit]}${fraction(size, unit)} s`;
}

/** Where the value of a row begins, which is where that of the row before it ends. */
function ends(parts) {
  const [start] = buffer(parts);
  return (row) => parts.body.getInt32(start + row * 4, true);
}

/** Texts and bytes. */
function lengthy(parts, read) {
  const isThere = validity(parts);
  const end = ends(parts);
  const [start] = buffer(parts);
  return nullable(isThere, (row) => read(parts.body, start + end(row), start + end(row + 1)), true);
}

function bytes({ type }, parts) {
  return fixed(parts, type.int(0), (view, at) => hexadecimal(view, at, at + type.int(0)), true);
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function utf8(view, from, to) {
  return decoder.decode(new Uint8Array(view.buffer, from, to - from));
}

function hexadecimal(view, from, to) {
  const digits = Array.from(new Uint8Array(view.buffer, from, to - from), (byte) => byte.toString(16).padStart(2, "0"));
  return `\\x${digits.join("")}`;
}

/** A value within another one, as JSON has it. */
function json(column, row) {
  const text = column.text(row);
  return text !== null && column.isQuoted ? JSON.stringify(text) : String(text);
}

/** Lists and maps, of which `items` writes the values between two ends. */
function lists(field, parts, items) {
  const isThere = validity(parts);
  const end = ends(parts);
  const item = items(field.children[0], parts);
  const between = (from, to) => Array.from({ length: to - from }, (_, index) => item.text(from + index)).join(", ");
  const [open, close] = item.brackets;
  return nullable(isThere, (row) => open + between(end(row), end(row + 1)) + close);
}

function list(child, parts) {
  const items = columnReader(child, parts);
  return { brackets: "[]", text: (row) => json(items, row) };
}

/** The entries of a map are pairs, none of which is NULL. */
function map(child, parts) {
  parts.nodes.next();
  validity(parts);
  const [keys, values] = child.children.map((of) => columnReader(of, parts));
  return { brackets: "{}", text: (row) => `${JSON.stringify(keys.text(row))}: ${json(values, row)}` };
}

function structs(field, parts) {
  const isThere = validity(parts);
  const columns = field.children.map((child) => [JSON.stringify(child.name), columnReader(child, parts)]);
  const written = (row) => columns.map(([name, column]) => `${name}: ${json(column, row)}`).join(", ");
  return nullable(isThere, (row) => `{${written(row)}}`);
}
