import { decode } from '@msgpack/msgpack';
import { describe, expect, it } from 'vitest';
import { csvOf } from '../src/lib/csv';
import type { Answer } from '../src/lib/series';
import recorded from './fixtures/series.json';

const read = (name: keyof typeof recorded.tables) =>
  decode(Buffer.from(recorded.tables[name], 'base64')) as Answer;
const rows = (text: string) => text.split('\r\n').map((line) => line.split(','));

function floats(bytes: Uint8Array): number[] {
  return [...new Float64Array(new Uint8Array(bytes).buffer)];
}

function steps(bytes: Uint8Array): bigint[] {
  return [...new BigInt64Array(new Uint8Array(bytes).buffer)];
}

describe('a table of a chart', () => {
  it('has every point as it was reported', () => {
    const answer = read('points');
    const [head, ...body] = rows(csvOf(answer, String));
    expect(body.pop()).toEqual(['']);
    expect(head!.join()).toBe('run,tag,counter,attempt,x,step,wall_time,value,mean,min,max,count,nonfinite');
    const expected = answer.series.flatMap(({ run, tag, counter, superseded, attempt, points }) => {
      const [x, values, times] = [points!.x!, points!.value, points!.wall_time].map(floats);
      return steps(points!.step).map((step, i) => {
        const [value, finite] = [values![i]!, Number.isFinite(values![i])];
        const figure = finite ? String(value) : '';
        return [run, tag, counter, superseded ? String(attempt) : '', ...[x![i], step, times![i], value].map(String), figure, figure, figure, '1', finite ? '0' : '1']; // prettier-ignore
      });
    });
    expect(body).toEqual(expected);
    expect(new Set(body.map((row) => row[3]))).toContain('1');
    expect(body.flat()).toContain(String(2n ** 53n + 1n));
  });

  it('has of a bucket its last point, and its figures', () => {
    const answer = read('buckets');
    const body = rows(csvOf(answer, String)).slice(1, -1);
    const found = answer.series.flatMap(({ buckets, points }) =>
      buckets
        ? steps(buckets.last.step).map((step, i) => [step, floats(buckets.mean)[i], steps(buckets.count)[i]])
        : steps(points!.step).map((step, i) => [step, floats(points!.value)[i], 1]),
    );
    expect(body.map((row) => [row[5], row[8], row[11]])).toEqual(found.map((row) => row.map(String)));
    expect(body.some((row) => Number(row[11]) > 1)).toBe(true);
  });

  it('of groups has a row for each place', () => {
    const answer = read('groups');
    const [head, ...body] = rows(csvOf(answer, (value) => `lr ${String(value)}`));
    expect(head!.join()).toBe('group,tag,x,runs,mean,std,min,max');
    const places = answer.groups!.reduce((sum, { points }) => sum + points.x.length / 8, 0);
    expect(body).toHaveLength(places + 1);
    expect(body[0]!.slice(0, 4)).toEqual(['lr 0.1', 'loss', '0', '1']);
  });

  it('quotes what a reader would take for more than one cell', () => {
    const answer = read('buckets');
    const series = answer.series.map((one) => ({ ...one, run: 'a,"b"\nc' }));
    const text = csvOf({ ...answer, series }, String);
    expect(text).toContain('\r\n"a,""b""\nc",loss,');
  });
});
