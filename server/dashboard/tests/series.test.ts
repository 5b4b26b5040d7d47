import { decode } from '@msgpack/msgpack';
import { describe, expect, it } from 'vitest';
import { apply, bandsOf, lineKey, lineOf, type Answer, type Line, type Lines } from '../src/lib/series';
import recorded from './fixtures/series.json';

function read(base64: string): Answer {
  // At an odd place in a larger buffer, as a body may come.
  const bytes = Buffer.from(`AA==${base64}`.slice(4), 'base64');
  const moved = new Uint8Array(bytes.length + 3);
  moved.set(bytes, 3);
  return decode(moved.subarray(3)) as Answer;
}

function wholeOf(answer: Answer): Lines {
  return new Map(
    answer.series.map((series) => {
      const line = lineOf(series, answer.x);
      return [lineKey(line.run, line.tag, line.attempt), line];
    }),
  );
}

/** What of a line does not depend on where buckets begin. */
function summary(line: Line) {
  const finite = line.mean.map((mean, i) =>
    Number.isNaN(mean) ? 0 : mean * (line.count[i]! - line.nonfinite[i]!),
  );
  const sum = (column: Float64Array) => column.reduce((total, value) => total + value, 0);
  return {
    points: line.points,
    count: sum(line.count),
    nonfinite: sum(line.nonfinite),
    from: line.x0[0],
    to: line.x1.at(-1),
    last: line.last.at(-1),
    min: Math.min(...line.min.filter(Number.isFinite)),
    max: Math.max(...line.max.filter(Number.isFinite)),
    sum: Number(sum(finite).toPrecision(9)),
  };
}

describe('answers to since, taken one after the other', () => {
  it.each(Object.entries(recorded.replays))('%s: are what the whole answer is', (name, replay) => {
    const held: Lines = new Map();
    for (const { after, news, whole } of replay) {
      const before = new Map(held);
      const { changed, gone, cursor } = apply(held, read(news));
      const expected = wholeOf(read(whole));
      expect([...held.keys()].sort(), after).toEqual([...expected.keys()].sort());
      expect(cursor).toBeTypeOf('string');
      for (const key of gone) expect(held.has(key)).toBe(false);
      for (const [key, line] of held) {
        const { appended, ...columns } = line;
        expect(appended).toBeLessThanOrEqual(line.length);
        expect(summary(line), after).toEqual(summary(expected.get(key)!));
        if (!name.includes('bucket') && !name.includes('counter') && name !== 'a part') {
          const { appended: _, ...exactly } = expected.get(key)!;
          expect(columns, after).toEqual(exactly);
        }
        if (!changed.includes(key)) expect(line).toBe(before.get(key));
      }
    }
  });

  it('change nothing where nothing changed, and append where it only grew', () => {
    const replay = recorded.replays['every point'];
    const held: Lines = new Map();
    apply(held, read(replay[0]!.news));
    const before = held.get(lineKey('p/a', 'loss'))!;
    expect(apply(held, read(replay[1]!.news))).toMatchObject({ changed: [lineKey('p/a', 'loss')], gone: [] });
    const after = held.get(lineKey('p/a', 'loss'))!;
    expect([before.length, after.length, after.appended]).toEqual([30, 45, 15]);
    expect(apply(held, read(replay[2]!.news))).toMatchObject({ changed: [], gone: [] });
    expect(held.get(lineKey('p/a', 'loss'))).toBe(after);
  });
});

describe('a line', () => {
  const whole = (name: keyof typeof recorded.replays, at: number) =>
    wholeOf(read(recorded.replays[name][at]!.whole));

  it('has its points as they were reported', () => {
    const line = whole('every point', 1).get(lineKey('p/a', 'loss'))!;
    expect([...line.x.subarray(0, 3)]).toEqual([0, 1, 2]);
    expect([...line.last.subarray(29, 33)]).toEqual([1 / 30, NaN, Infinity, 0.25]);
    expect([...line.mean.subarray(29, 33)]).toEqual([1 / 30, NaN, NaN, 0.25]);
    expect([...line.nonfinite.subarray(29, 33)]).toEqual([0, 1, 1, 0]);
    expect([line.counter, line.attempt, line.xSource]).toEqual(['global_step', null, null]);
  });

  it('has buckets with their ends, their means between their extremes', () => {
    const line = whole('buckets', 0).get(lineKey('p/a', 'loss'))!;
    expect(line.length).toBeLessThanOrEqual(7);
    line.x.forEach((x, i) => {
      expect([line.first[i], line.last[i]]).toEqual([line.max[i], line.min[i]]); // the loss falls
      expect(x).toBe((line.x0[i]! + line.x1[i]!) / 2);
      expect(line.min[i]).toBeLessThanOrEqual(line.mean[i]!);
      expect(line.mean[i]).toBeLessThanOrEqual(line.max[i]!);
    });
  });

  it('along another counter has whole numbers, and seconds along time', () => {
    const line = whole('along a counter', 0).get(lineKey('p/a', 'loss'))!;
    expect([line.x1.at(-1), line.xSource]).toEqual([2, 'recorded']);
    expect(whole('relative', 0).get(lineKey('p/a', 'loss'))!.x[2]).toBe(20);
  });

  it('has steps as float64, the nearest to those beyond 2⁵³', () => {
    const line = whole('every point', recorded.replays['every point'].length - 1).get(
      lineKey('p/a', 'loss'),
    )!;
    const far = 2n ** 53n;
    expect([...line.x.subarray(-5)]).toEqual([far - 1n, far, far + 1n, far + 2n, far + 3n].map(Number));
    expect(line.last.at(-1)).toBe(3);
  });

  it('that a rewind superseded stands beside the visible one', () => {
    const lines = whole('with what was superseded', 5);
    const superseded = lines.get(lineKey('p/a', 'loss', 1))!;
    expect([superseded.attempt, superseded.writer]).toEqual([1, 'anonymous']);
    expect(superseded.x[0]).toBe(40);
    expect(lines.get(lineKey('p/a', 'loss'))!.attempt).toBeNull();
  });

  it('of something else is refused', () => {
    const series = { run: 'a', tag: 'b', counter: 'c', count: 1 };
    expect(() => lineOf(series, 'step')).toThrow(TypeError);
    const column = new Uint8Array(7);
    expect(() => lineOf({ ...series, lean: { x: column, value: column } }, 'step')).toThrow(TypeError);
    expect(() => lineOf({ ...series, lean: { value: new Uint8Array(8) } }, 'step')).toThrow(TypeError);
  });
});

it('groups are columns over common places', () => {
  const bands = bandsOf(read(recorded.groups));
  expect(bands.map(({ value, tag, runs }) => [value, tag, runs])).toEqual([
    [0.1, 'loss', 1],
    [null, 'loss', 1],
  ]);
  expect([...bands[1]!.mean.subarray(0, 3)]).toEqual([9, 9, 9]);
  expect([...bands[1]!.count]).toEqual([1, 1, 1]);
  expect([...bands[0]!.x.subarray(0, 3)]).toEqual([0, 1, 2]);
});
