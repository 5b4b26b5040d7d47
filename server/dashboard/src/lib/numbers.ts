/** Text of values, steps, spans and times, as short as it can be read without a doubt. */

const NONE = '–';
const UNITS: readonly (readonly [string, number])[] = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
  ['s', 1],
];

/** A value of a metric with so many significant digits: 0.0312, 1.5e-7, 12,345,678; NaN, ∞ and −∞ as they are. */
export function valueText(value: number | string | null | undefined, digits = 4): string {
  if (value === null || value === undefined) return NONE;
  const number = typeof value === 'string' ? Number(value) : value;
  if (Number.isNaN(number)) return 'NaN';
  if (!Number.isFinite(number)) return number > 0 ? '∞' : '−∞';
  if (number === 0) return '0';
  const size = Math.abs(number);
  if (Number.isInteger(number) && size < 1e9) return grouped(number);
  if (size >= 1e7 || size < 1e-4) return exponential(number, digits);
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  const text = number.toFixed(Math.min(20, decimals));
  return signed(text.includes('.') ? text.replace(/\.?0+$/, '') : text);
}

/** A step, exactly, in groups of three digits. */
export function stepText(step: number | bigint): string {
  return grouped(step);
}

/** A count or rate in short: 1,234 → 1.23k, 25000000 → 25M. */
export function shortText(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return valueText(value);
  const size = Number(Math.abs(value).toPrecision(digits)); // 999.9 is 1k
  const place = size < 1000 ? 0 : Math.min(5, Math.floor(Math.log10(size) / 3));
  const text = Number((value / 1000 ** place).toPrecision(digits));
  return `${signed(String(text))}${['', 'k', 'M', 'G', 'T', 'P'][place]}`;
}

/** A span in its two largest units: 93784 → 1 d 2 h; below a minute in seconds, below a second in milliseconds. */
export function durationText(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  if (seconds < 0) return `−${durationText(-seconds)}`;
  if (seconds < 1) return seconds === 0 ? '0 s' : `${Number((seconds * 1000).toPrecision(2))} ms`;
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.round(seconds);
  const first = UNITS.findIndex(([, size]) => whole >= size);
  const [unit, size] = UNITS[first]!;
  const next = UNITS[first + 1];
  const rest = next ? Math.floor((whole % size) / next[1]) : 0;
  return `${Math.floor(whole / size)} ${unit}${next && rest ? ` ${rest} ${next[0]}` : ''}`;
}

/** How long ago a time was (both in seconds since the epoch): “now”, “12 s ago”, “3 d ago”. */
export function ageText(time: number | null | undefined, now: number): string {
  if (time === null || time === undefined) return NONE;
  const age = now - time;
  if (age < 1) return 'now';
  const whole = Math.round(age);
  const [unit, size] = UNITS.find(([, size]) => whole >= size)!;
  return `${Math.floor(whole / size)} ${unit} ago`;
}

/** Seconds until a counter reaches its total at its present rate (steps per second); null where nobody can say. */
export function etaS(value: number | null, total: number | null, rate: number | null): number | null {
  if (value === null || total === null || rate === null || !(rate > 0)) return null;
  return Math.max(0, total - value) / rate;
}

/** A time (seconds since the epoch) in the reader's own zone: 2026-05-01 14:30:05. */
export function timeText(time: number | null | undefined): string {
  const date = dateOf(time);
  if (!date) return NONE;
  const [year, month, day] = [date.getFullYear(), date.getMonth() + 1, date.getDate()];
  const clock = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':');
  return `${String(year).padStart(4, '0')}-${two(month)}-${two(day)} ${clock}`;
}

/** The same in UTC, for titles: 2026-05-01 12:30:05 UTC. */
export function utcText(time: number | null | undefined): string {
  const date = dateOf(time);
  return date ? `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC` : NONE;
}

function dateOf(time: number | null | undefined): Date | null {
  if (time === null || time === undefined) return null;
  const date = new Date(time * 1000);
  return Number.isNaN(date.getTime()) ? null : date;
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}

function grouped(value: number | bigint): string {
  return signed(String(value).replace(/\B(?=(\d{3})+$)/g, ','));
}

function exponential(value: number, digits: number): string {
  const [mantissa, exponent] = value.toExponential(digits - 1).split('e') as [string, string];
  return signed(
    `${mantissa.includes('.') ? mantissa.replace(/\.?0+$/, '') : mantissa}e${exponent.replace('+', '')}`,
  );
}

/** With a minus sign as wide as a plus; the exponent's stays a hyphen, so that text can be copied as a number. */
function signed(text: string): string {
  return text.startsWith('-') ? `−${text.slice(1)}` : text;
}
