/** What a chart shows as a table of text (RFC 4180), of an answer with all columns, in MessagePack. */
import type { Answer, Buckets, Points } from './series';

/** A row for each point, or each bucket: then step, wall_time, x and value are those of its last point. */
const HEAD = [
  'run', 'tag', 'counter', 'attempt', 'x', 'step', 'wall_time', 'value', 'mean', 'min', 'max', 'count', 'nonfinite',
]; // prettier-ignore
const GROUP_HEAD = ['group', 'tag', 'x', 'runs', 'mean', 'std', 'min', 'max'];

/** The answer as text; of groups, named by `name`, a row for each place. */
export function csvOf(answer: Answer, name: (value: unknown) => string): string {
  const counted = answer.x !== 'relative' && answer.x !== 'wall_time';
  const rows = answer.groups ? groupRows(answer, name, counted) : seriesRows(answer, counted);
  return (
    [answer.groups ? GROUP_HEAD : HEAD, ...rows].map((row) => row.map(cell).join(',')).join('\r\n') + '\r\n'
  );
}

type Row = (string | number | bigint | null)[];
type Column = Float64Array | BigInt64Array;

function seriesRows(answer: Answer, counted: boolean): Row[] {
  const rows: Row[] = [];
  for (const { run, tag, counter, superseded, attempt, points, buckets } of answer.series) {
    const head = [run, tag, counter, superseded ? (attempt ?? null) : null];
    if (buckets) rows.push(...bucketRows(buckets, counted).map((row) => [...head, ...row]));
    else if (points) rows.push(...pointRows(points, counted).map((row) => [...head, ...row]));
  }
  return rows;
}

function pointRows(points: Points, counted: boolean): Row[] {
  const { x, step, time, value } = columnsOf(points, counted);
  return Array.from(step, (at, i) => {
    const finite = Number.isFinite(value[i]!);
    const figure = finite ? value[i]! : null;
    return [x[i]!, at, time[i]!, value[i]!, figure, figure, figure, 1, finite ? 0 : 1];
  });
}

function bucketRows(buckets: Buckets, counted: boolean): Row[] {
  const { x, step, time, value } = columnsOf(buckets.last, counted);
  const figures = [buckets.mean, buckets.min.value, buckets.max.value].map(floats);
  const [count, nonfinite] = [int64(buckets.count), int64(buckets.nonfinite)];
  return Array.from(step, (at, i) => {
    const known = figures.map((column) => (Number.isNaN(column[i]!) ? null : column[i]!));
    return [x[i]!, at, time[i]!, value[i]!, ...known, count[i]!, nonfinite[i]!];
  });
}

function groupRows(answer: Answer, name: (value: unknown) => string, counted: boolean): Row[] {
  return (answer.groups ?? []).flatMap(({ value, tag, points }): Row[] => {
    const x: Column = counted ? int64(points.x) : floats(points.x);
    const count = int64(points.count);
    const figures = [points.mean, points.std, points.min, points.max].map(floats);
    return Array.from(count, (runs, i) => [
      name(value),
      tag,
      x[i]!,
      runs,
      ...figures.map((column) => column[i]!),
    ]);
  });
}

function columnsOf(points: Points, counted: boolean) {
  const step = int64(points.step);
  const x: Column = !points.x ? step : counted ? int64(points.x) : floats(points.x);
  return { x, step, time: floats(points.wall_time), value: floats(points.value) };
}

/** Numbers as JSON has them, which is what most readers of tables take; quotes where a text needs them. */
function cell(value: string | number | bigint | null): string {
  if (value === null) return '';
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function floats(column: Uint8Array): Float64Array {
  return new Float64Array(new Uint8Array(column).buffer);
}

/** Exactly, unlike lines to draw. */
function int64(column: Uint8Array): BigInt64Array {
  return new BigInt64Array(new Uint8Array(column).buffer);
}
