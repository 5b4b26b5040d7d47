import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ColumnsAnswer } from '../src/api/client';
import { Axis } from '../src/lib/sweepaxis';
import {
  axisX,
  jitter,
  layout,
  MISSING_GAP,
  moved,
  NAN_GAP,
  nearestLine,
  placeAt,
  rangeOf,
  within,
} from '../src/lib/parallel';
import { inside, nearestPoint, points } from '../src/lib/scatter';
import { DEFAULT } from '../src/lib/view';
import { beginning, choices, ranked, wanted, type Row } from '../src/lib/sweep';

const box = { left: 40, top: 20, width: 600, height: 200 };
const rows: Row[] = [
  { name: 'a', values: { lr: 0.001, opt: 'adam', loss: 1 } },
  { name: 'b', values: { lr: 0.1, opt: 'sgd', loss: 'NaN' } },
  { name: 'c', values: { lr: 0.01, opt: null, loss: 3 } },
];
const axis = (column: string, log = false) =>
  Axis.of(
    column,
    rows.map((row) => row.values[column]),
    log,
  );

describe('parallel coordinates', () => {
  const made = layout(rows, [axis('lr', true), axis('opt'), axis('loss')], box);

  it('put values from bottom to top, and what is none beneath', () => {
    expect(made.x).toEqual([40, 340, 640]);
    expect([...made.y[0]!]).toEqual([220, 20, 120]);
    expect(made.y[2]![1]).toBe(220 + NAN_GAP);
    expect(made.y[1]![2]).toBe(220 + MISSING_GAP);
  });

  it('keep runs of one category within its band, apart from each other', () => {
    const many = Array.from({ length: 500 }, (_, i) => ({ name: `r${i}`, values: { o: i % 2 ? 'x' : 'y' } }));
    const places = layout(many, [Axis.of('o', ['x', 'y'])], box).y[0]!;
    many.forEach((row, i) => {
      const middle = row.values.o === 'x' ? 170 : 70;
      expect(Math.abs(places[i]! - middle)).toBeLessThanOrEqual(25);
    });
    expect(new Set(places).size).toBeGreaterThan(450);
  });

  it('find the runs in all ranges, as brute force does', () => {
    const range = fc.tuple(
      fc.double({ min: -1, max: 4, noNaN: true }),
      fc.double({ min: -1, max: 4, noNaN: true }),
    );
    const table = fc.array(
      fc.record({ x: fc.constantFrom(0, 1, 2, 3, null, 'NaN'), y: fc.constantFrom(0, 1, 2) }),
    );
    fc.assert(
      fc.property(table, range, range, (values, x, y) => {
        const some = values.map((value, i): Row => ({ name: `${i}`, values: value }));
        const axes = ['x', 'y'].map((column) =>
          Axis.of(
            column,
            some.map((row) => row.values[column]),
          ),
        );
        const found = within(layout(some, axes, box), { x, y, other: [7, 8] });
        expect(found).toEqual(
          values.map((value) => {
            const fits = (v: unknown, [from, to]: [number, number]) =>
              typeof v === 'number' && v >= from && v <= to;
            return fits(value.x, x) && fits(value.y, y);
          }),
        );
      }),
    );
  });

  it('take what a drag covers, however it goes, and a click for none', () => {
    const lr = axis('lr', true);
    const [low, high] = rangeOf(lr, 120, 500, box)!;
    expect([low, high]).toEqual([expect.closeTo(0.001), expect.closeTo(0.01)]);
    expect(rangeOf(lr, 500, 120, box)).toEqual([low, high]);
    expect(rangeOf(lr, 100, 102, box)).toBeNull();
  });

  it('find the nearest line, as long as it is near and shown', () => {
    const all = [true, true, true];
    expect(nearestLine(made, [45, 22], 6, all)).toBe(1);
    expect(nearestLine(made, [45, 218], 6, all)).toBe(0);
    expect(nearestLine(made, [45, 22], 6, [true, false, true])).toBeNull();
    expect(nearestLine(made, [45, 70], 6, all)).toBeNull();
    expect(nearestLine(layout(rows, [axis('lr', true)], box), [340, 119], 6, all)).toBe(2);
  });

  it('move an axis to where it is dropped', () => {
    expect(moved(['a', 'b', 'c'], 0, 2)).toEqual(['b', 'c', 'a']);
    expect(moved(['a', 'b', 'c'], 2, -1)).toEqual(['c', 'a', 'b']);
    for (let i = 0; i < 4; i++) expect(placeAt(axisX(i, 4, box) + 90, 4, box)).toBe(i);
    expect([placeAt(-99, 4, box), placeAt(9999, 4, box), placeAt(5, 1, box)]).toEqual([0, 3, 0]);
  });

  it('spread names evenly, the same each time', () => {
    const values = Array.from({ length: 4_000 }, (_, i) => jitter(`sweep/try${i}`));
    expect(values[7]).toBe(jitter('sweep/try7'));
    for (let part = 0; part < 10; part++) {
      const share = values.filter((value) => Math.floor(value * 10) === part).length / values.length;
      expect(Math.abs(share - 0.1)).toBeLessThan(0.03);
    }
  });
});

describe('a scatter plot', () => {
  const made = points(rows, axis('lr', true), axis('loss'), box);

  it('has a point for each run, beside the axes where there is no value', () => {
    expect([made.x[0], made.y[0]]).toEqual([40, 220]);
    expect([made.x[1], made.y[1]]).toEqual([640, 220 + NAN_GAP]);
    expect([made.x[2], made.y[2]]).toEqual([expect.closeTo(340), 20]);
    expect(points(rows, axis('opt'), axis('loss'), box).x[2]).toBe(40 - MISSING_GAP);
  });

  it('gives the runs in a box, and the nearest one', () => {
    expect(inside(made, [700, 300], [300, 0])).toEqual([1, 2]);
    expect(inside(made, [0, 0], [10, 10])).toEqual([]);
    expect(nearestPoint(made, [43, 216], 8)).toBe(0);
    expect(nearestPoint(made, [60, 216], 8)).toBeNull();
  });
});

describe('a sweep', () => {
  const key = (column: string, distinct: number | null, more = {}) => ({
    column,
    runs: 9,
    sorts: { number: 9 },
    distinct,
    values: [],
    least: null,
    greatest: null,
    ...more,
  });
  const answer: ColumnsAnswer = {
    runs: 9,
    config: [
      key('config.seed', 9),
      key('config.lr', 9, { least: 0.0001, greatest: 0.1 }),
      key('config.model', 1),
      key('config.layers', null, { sorts: { list: 9 } }),
      key('config.depth', 3, { least: 2, greatest: 8 }),
    ],
    summary: [],
    tags: ['train/loss', 'val/acc', 'val/loss', 'odd tag'].map((tag) => ({
      column: `last.${tag}`,
      tag,
      runs: 9,
    })),
    counters: [{ column: 'counters.epoch', counter: 'epoch', runs: 9, totals: 0 }],
    truncated: false,
  };

  it('begins with the keys that differ and a held-out loss', () => {
    expect(beginning(answer)).toEqual({
      axes: ['config.lr', 'config.depth', 'config.seed'],
      metric: 'min.val/loss',
      log: ['config.lr'],
    });
    const without = { ...answer, config: [], tags: [] };
    expect(beginning(without)).toEqual({ axes: [], metric: null, log: [] });
    expect(beginning({ ...answer, tags: answer.tags.slice(1, 2) }).metric).toBe('max.val/acc');
  });

  it('is looked at as was chosen, and as one begins where nothing was', () => {
    const begin = beginning(answer);
    expect(wanted(DEFAULT.sweep, begin)).toEqual({
      ...begin,
      x: 'config.lr',
      y: 'min.val/loss',
      tint: 'config.depth',
    });
    const look = { ...DEFAULT.sweep, axes: ['config.depth'], metric: 'max.val/acc' };
    expect(wanted(look, begin)).toEqual({
      axes: ['config.depth'],
      metric: 'max.val/acc',
      log: [],
      x: 'config.depth',
      y: 'max.val/acc',
      tint: 'max.val/acc',
    });
  });

  it('is ordered from the best to the worst, then NaN, then nothing', () => {
    const of = (column: string) => (value: unknown, i: number) => ({
      name: `${i}`,
      values: { [column]: value },
    });
    const values = [null, 2, 'NaN', 3, '-Infinity', 1];
    const names = (column: string) => ranked(values.map(of(column)), column).map(({ name }) => name);
    expect(names('min.loss')).toEqual(['4', '5', '1', '3', '2', '0']);
    expect(names('max.loss')).toEqual(['3', '1', '5', '4', '2', '0']);
    expect(names('last.val/acc')).toEqual(['3', '1', '5', '4', '2', '0']);
    expect(names('summary.time')).toEqual(['4', '5', '1', '3', '2', '0']);
  });

  it('can be looked at by every key, counter and figure', () => {
    const all = choices(answer).flatMap(({ columns }) => columns);
    expect(all).toEqual(
      expect.arrayContaining(['config.lr', 'min.val/loss', 'last."odd tag"', 'counters.epoch']),
    );
    expect(choices(answer).some(({ group }) => group === 'Summary')).toBe(false);
  });
});
