import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ageText,
  durationText,
  etaS,
  shortText,
  stepText,
  timeText,
  utcText,
  valueText,
} from '../src/lib/numbers';

describe('valueText', () => {
  it.each([
    [0, '0'],
    [-0, '0'],
    [1, '1'],
    [0.5, '0.5'],
    [0.031234, '0.03123'],
    [-0.25, '−0.25'],
    [99.99999, '100'],
    [12.3456, '12.35'],
    [123456, '123,456'],
    [123456.78, '123457'],
    [1.5e-7, '1.5e-7'],
    [0.0001, '0.0001'],
    [3.21e12, '3.21e12'],
    [NaN, 'NaN'],
    [Infinity, '∞'],
    [-Infinity, '−∞'],
    ['Infinity', '∞'],
    ['NaN', 'NaN'],
    [null, '–'],
  ])('%s → %s', (value, text) => expect(valueText(value)).toBe(text));

  it('is right to its last digit, whatever the size', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, min: -1e300, max: 1e300 }), (value) => {
        const read = Number(valueText(value).replace('−', '-').replaceAll(',', ''));
        expect(Math.abs(read - value)).toBeLessThanOrEqual(Math.abs(value) * 0.0006);
      }),
    );
  });
});

it('writes steps exactly, beyond 2⁵³, too', () => {
  expect(stepText(1234567)).toBe('1,234,567');
  expect(stepText(2n ** 63n - 1n)).toBe('9,223,372,036,854,775,807');
});

it.each([
  [0, '0'],
  [999, '999'],
  [999.9, '1k'],
  [1234, '1.23k'],
  [-25e6, '−25M'],
  [9.2e18, '9200P'],
  [0.5, '0.5'],
])('shortens %s to %s', (value, text) => expect(shortText(value)).toBe(text));

it.each([
  [0, '0 s'],
  [0.0123, '12 ms'],
  [2.34, '2.3 s'],
  [59.7, '1 min'],
  [61, '1 min 1 s'],
  [3600, '1 h'],
  [7260, '2 h 1 min'],
  [93784, '1 d 2 h'],
  [-30, '−30 s'],
  [NaN, '–'],
  [null, '–'],
])('a span of %s s is %s', (seconds, text) => expect(durationText(seconds)).toBe(text));

it('says how long ago a time was', () => {
  const now = 1_800_000_000;
  expect(ageText(now, now)).toBe('now');
  expect(ageText(now + 5, now)).toBe('now'); // another machine's clock
  expect(ageText(now - 59.6, now)).toBe('1 min ago');
  expect(ageText(now - 3 * 86_400 - 5, now)).toBe('3 d ago');
});

it('says when a counter reaches its total', () => {
  expect(etaS(50, 100, 2)).toBe(25);
  expect(etaS(120, 100, 2)).toBe(0);
  expect(etaS(50, 100, 0)).toBeNull();
  expect(etaS(50, null, 2)).toBeNull();
});

it('gives times in the reader’s zone, and in UTC', () => {
  const zone = process.env['TZ'];
  process.env['TZ'] = 'Asia/Kolkata';
  try {
    expect(timeText(1_777_777_777.9)).toBe('2026-05-03 08:39:37');
    expect(utcText(1_777_777_777.9)).toBe('2026-05-03 03:09:37 UTC');
    expect(timeText(1e300)).toBe('–');
  } finally {
    if (zone === undefined) delete process.env['TZ'];
    else process.env['TZ'] = zone;
  }
});
