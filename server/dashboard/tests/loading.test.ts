import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Problem } from '../src/api/client';
import { Loading } from '../src/state/loading.svelte';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Requests that a test answers one by one. */
class Requests {
  readonly loading = new Loading();
  readonly open: { name: string; signal: AbortSignal; done: () => void; fail: (error: Error) => void }[] = [];

  work(name: string) {
    return (signal: AbortSignal) =>
      new Promise<void>((done, fail) => this.open.push({ name, signal, done, fail }));
  }

  get names(): string[] {
    return this.open.map(({ name }) => name);
  }
}

const settled = () => vi.advanceTimersByTimeAsync(0);

it('does once what is asked for many times while it is busy', async () => {
  const requests = new Requests();
  ['a', 'b', 'c'].forEach((name) => requests.loading.follow(requests.work(name)));
  expect(requests.names).toEqual(['a']);
  expect(requests.loading.busy).toBe(true);
  requests.open[0]!.done();
  await settled();
  expect(requests.names).toEqual(['a', 'c']);
  requests.open[1]!.done();
  await settled();
  expect(requests.loading.busy).toBe(false);
});

it('leaves what is under way for what replaces it', async () => {
  const requests = new Requests();
  requests.loading.replace(requests.work('a'));
  requests.loading.replace(requests.work('b'));
  expect(requests.open[0]!.signal.aborted).toBe(true);
  requests.open[0]!.fail(new Problem(0, 'no_answer', 'late'));
  await settled();
  expect(requests.loading.problem).toBeNull();
  expect(requests.loading.busy).toBe(true);
});

it('tries again what may help, ever more slowly, and at once when there is news', async () => {
  const requests = new Requests();
  requests.loading.follow(requests.work('a'));
  requests.open[0]!.fail(new Problem(0, 'no_answer', 'The service does not answer.'));
  await settled();
  expect(requests.loading.problem).toBe('The service does not answer.');
  await vi.advanceTimersByTimeAsync(3_000);
  expect(requests.names).toEqual(['a', 'a']);
  requests.open[1]!.fail(new Problem(502, 'http_error', 'away'));
  await vi.advanceTimersByTimeAsync(5_900);
  expect(requests.names).toEqual(['a', 'a']);
  requests.loading.follow(requests.work('b'));
  expect(requests.names).toEqual(['a', 'a', 'b']);
  requests.open[2]!.done();
  await vi.advanceTimersByTimeAsync(100_000);
  expect(requests.names).toHaveLength(3);
  expect(requests.loading.problem).toBeNull();
});

it('waits as long as the service says', async () => {
  const requests = new Requests();
  requests.loading.follow(requests.work('a'));
  requests.open[0]!.fail(new Problem(503, 'too_busy', 'busy', 10));
  await settled();
  requests.loading.follow(requests.work('b'));
  await vi.advanceTimersByTimeAsync(9_900);
  expect(requests.names).toEqual(['a']);
  await vi.advanceTimersByTimeAsync(100);
  expect(requests.names).toEqual(['a', 'b']);
});

it('does not try again what is wrong', async () => {
  const requests = new Requests();
  requests.loading.replace(requests.work('a'));
  requests.open[0]!.fail(new Problem(422, 'invalid_query', 'position 3: a value is wanted'));
  await vi.advanceTimersByTimeAsync(100_000);
  expect(requests.names).toEqual(['a']);
  expect(requests.loading.problem).toBe('position 3: a value is wanted');
});
