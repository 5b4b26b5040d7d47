import { expect, it } from 'vitest';
import { Gate } from '../src/lib/gate';

it('lets no more in than said, in order, and goes on after a failure', async () => {
  const gate = new Gate(2);
  const [begun, ends]: [number[], (() => void)[]] = [[], []];
  const task = (n: number) => () =>
    new Promise<number>((resolve, reject) => {
      begun.push(n);
      ends[n] = () => (n === 1 ? reject(new Error('failed')) : resolve(n));
    });
  const all = [0, 1, 2, 3].map((n) => gate.run(task(n)).catch((error: Error) => error.message));
  expect(begun).toEqual([0, 1]);
  ends[1]!();
  await all[1];
  expect(begun).toEqual([0, 1, 2]);
  ends[0]!();
  await all[0];
  expect(begun).toEqual([0, 1, 2, 3]);
  ends[2]!();
  ends[3]!();
  expect(await Promise.all(all)).toEqual([0, 'failed', 2, 3]);
});

it('never begins what was given up meanwhile', async () => {
  const gate = new Gate(1);
  let end = () => {};
  const first = gate.run(() => new Promise<void>((resolve) => (end = resolve)));
  const given = new AbortController();
  const second = gate.run(() => Promise.reject(new Error('begun')), given.signal);
  given.abort();
  end();
  await first;
  await expect(second).rejects.toThrow('aborted');
  await expect(gate.run(() => Promise.resolve(5))).resolves.toBe(5);
});
