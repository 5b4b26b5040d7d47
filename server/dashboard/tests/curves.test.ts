import { describe, expect, it } from 'vitest';
import {
  bandKey,
  commonBeginning,
  curvesOfBands,
  curvesOfLines,
  groupName,
  isOf,
  Smoother,
  type Naming,
} from '../src/lib/curves';
import { lineKey, type Line } from '../src/lib/series';
import { smooth, tauOf } from '../src/lib/smooth';
import { band, points } from './kit';

const naming: Naming = {
  label: (run) => run.toUpperCase(),
  colour: (run) => `#${run}`,
  groupColour: (value) => `#${value}`,
};
const lines = (...all: Line[]) =>
  new Map(all.map((line) => [lineKey(line.run, line.tag, line.attempt), line] as const));

describe('curves of lines', () => {
  it('have name and colour of their runs; what is superseded lies below and says so', () => {
    const all = lines(points('a', [1, 2], [3, 4]), points('a', [2, 3], [9, 9], 1), points('b', [1], [5]));
    const curves = curvesOfLines(all, all, 0.5, naming, new Smoother());
    expect(curves.map(({ name, note, ghost }) => [name, note, ghost])).toEqual([
      ['A', 'attempt 1, superseded', true],
      ['A', '', false],
      ['B', '', false],
    ]);
    expect(curves[0]!.smoothed).toBeNull();
    expect(curves.map((curve) => isOf(curve, 'a'))).toEqual([true, true, false]);
    expect(isOf(curves[0]!, null)).toBe(false);
  });

  it('are smoothed by the whole range of x, also where a part is seen', () => {
    const xs = Array.from({ length: 100 }, (_, i) => i);
    const whole = points(
      'a',
      xs,
      xs.map((x) => Math.sin(x)),
    );
    const part = points(
      'a',
      xs.slice(50),
      xs.slice(50).map((x) => Math.sin(x)),
    );
    const [curve] = curvesOfLines(lines(part), lines(whole), 0.7, naming, new Smoother());
    const expected = smooth(whole, tauOf(0.7, 99));
    curve!.smoothed!.forEach((value, i) => expect(value).toBeCloseTo(expected[50 + i]!, 12));
  });

  it('are smoothed once as long as nothing of it changes', () => {
    const [line, smoother] = [points('a', [1, 2, 3], [1, 5, 2]), new Smoother()];
    const draw = (turn: number, of = line) =>
      curvesOfLines(lines(of), lines(of), turn, naming, smoother)[0]!.smoothed;
    const first = draw(0.5);
    expect(draw(0.5)).toBe(first);
    expect(draw(0.6)).not.toBe(first);
    expect(draw(0)).toBeNull();
    expect(draw(0.5, { ...line })).not.toBe(first);
  });
});

describe('curves of groups', () => {
  const bands = [band(0.1, [1, 2], [10, 20], 2), band(null, [1], [5], 0, 1)];

  it('show mean ± std, or the least and greatest run', () => {
    const of = (spread: 'std' | 'range') =>
      curvesOfBands(bands, bands, 'lr', spread, 0, naming, new Smoother()).map(
        ({ low, high, name, note }) => [name, note, [...low], [...high]],
      );
    expect(of('std')).toEqual([
      ['lr = 0.1', '3 runs', [8, 18], [12, 22]],
      ['lr: none', '1 run', [5], [5]],
    ]);
    expect(of('range')[0]!.slice(2)).toEqual([[4, 14], [16, 26]]); // prettier-ignore
  });

  it('are smoothed, and keep that while the band is the same', () => {
    const smoother = new Smoother();
    const draw = () => curvesOfBands(bands, bands, 'lr', 'std', 0.5, naming, smoother)[0]!.smoothed!;
    const first = draw();
    expect([...first]).toEqual([...smooth({ ...bands[0]!, x0: bands[0]!.x, x1: bands[0]!.x, count: first.map(() => 1), nonfinite: first.map(() => 0) }, tauOf(0.5, 1))]); // prettier-ignore
    expect(draw()).toBe(first);
  });

  it('are called by what they share', () => {
    expect(groupName('config.net.depth', 3)).toBe('net.depth = 3');
    expect(groupName('opt', 'adam')).toBe('opt = adam');
    expect(groupName('layers', [1, 2])).toBe('layers = [1,2]');
    expect(groupName('run.ranks', 'a/b')).toBe('a/b');
    expect(groupName('run.all', null)).toBe('all runs');
    expect([bandKey(bands[0]!), bandKey(bands[1]!)]).toEqual(['0.1', 'null']);
  });
});

it('what names begin with in common goes up to a slash', () => {
  expect(commonBeginning(['a/b/c', 'a/b/d', 'a/bc'])).toBe('a/');
  expect(commonBeginning(['a/b/c', 'a/b/d'])).toBe('a/b/');
  expect(commonBeginning(['a/b', 'c/b'])).toBe('');
  expect(commonBeginning(['a/b', 'a/b/c'])).toBe('a/');
  expect(commonBeginning(['a/b'])).toBe('');
  expect(commonBeginning([])).toBe('');
});
