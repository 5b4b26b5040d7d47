import { expect, it } from 'vitest';
import { distances, SECONDS, secondTicks, stepTicks, valueTicks } from '../src/lib/ticks';

it('ticks of values differ, however close they are', () => {
  expect(valueTicks([0.5, 1, 1.5], 0.5)).toEqual(['0.5', '1', '1.5']);
  expect(valueTicks([0.99991, 0.99992, 0.99993], 0.00001)).toEqual(['0.99991', '0.99992', '0.99993']);
  expect(valueTicks([1e-8, 2e-8], 1e-8)).toEqual(['1e-8', '2e-8']);
  expect(valueTicks([0.001, null, 0.1], 0)).toEqual(['0.001', null, '0.1']);
  expect(valueTicks([0], 0)).toEqual(['0']);
});

it('ticks of steps are short, and in full where that does not tell them apart', () => {
  expect(stepTicks([0, 5000, 10_000])).toEqual(['0', '5k', '10k']);
  expect(stepTicks([123_450, 123_451, 123_452])).toEqual(['123,450', '123,451', '123,452']);
  expect(stepTicks([100_000.5, 100_001])).toEqual(['100000.5', '100,001']);
});

it('ticks of seconds are spans that people count in', () => {
  expect(secondTicks([0, 1800, 3600])).toEqual(['0', '30 min', '1 h']);
  expect(SECONDS.every((apart, i) => i === 0 || apart > SECONDS[i - 1]!)).toBe(true);
});

it.each([1e-200, 0.003, 1, 5e4, 1e300])(
  'for a range of %f there are distances that make a few ticks',
  (width) => {
    const fits = distances(-width / 2, width / 2).filter(
      (apart) => width / apart >= 3 && width / apart <= 10,
    );
    expect(fits.length).toBeGreaterThan(0);
  },
);
