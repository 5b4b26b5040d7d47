import { describe, expect, it } from 'vitest';
import type { AlertsPage, RefusedPage, RunView } from '../src/api/client';
import { alertsOf, newest } from '../src/lib/alerts';
import {
  byUrgency,
  countersOf,
  healthColumns,
  isShown,
  refusedGroups,
  standingOf,
  stretches,
  tally,
} from '../src/lib/health';
import { actionOf, BINDINGS, neighbour } from '../src/lib/keys';

const values = {
  status: 'running',
  last_seen: 100,
  attempts: 2,
  refused: 3,
  alerts: 0,
  stalled: ['epoch'],
  'counters.step': 250,
  'totals.step': 1_000,
  'rates.step': 5,
  'counters.epoch': 2,
  'totals.epoch': null,
  'rates.epoch': null,
  'counters.other': null,
  'totals.other': null,
};
const run = standingOf({ name: 'a/b', values }, ['step', 'epoch', 'other']);

describe('a run’s standing', () => {
  it('says how far its counters are, and when they are there', () => {
    expect(run.counters).toEqual([
      { counter: 'step', value: 250, total: 1_000, rate: 5, share: 0.25, eta: 150 },
      { counter: 'epoch', value: 2, total: null, rate: null, share: null, eta: null },
    ]);
    expect([run.title, run.stalled, run.refused, run.attempts]).toEqual(['a/b', ['epoch'], 3, 2]);
  });

  it('has no rate when it does not run, and no share beyond its end', () => {
    const done = standingOf(
      { name: 'a', values: { ...values, status: 'finished', 'counters.step': 1_200 } },
      ['step'],
    );
    expect(done.counters[0]).toMatchObject({ rate: null, eta: null, share: 1 });
  });

  it('is counted in each state that it is in', () => {
    const lost = {
      ...run,
      name: 'lost',
      status: 'lost',
      stalled: [],
      incidents: ['lost'],
      refused: 0,
      alerts: 1,
    };
    const selected = (name: string) => name === 'lost';
    expect(tally([run, lost], selected)).toEqual({
      selected: 1,
      running: 1,
      stalled: 1,
      lost: 1,
      failed: 0,
      finished: 0,
      incidents: 1,
      alerts: 1,
      refused: 1,
    });
    expect(isShown(run, 'selected', selected)).toBe(false);
  });

  it('comes sooner the more it needs somebody', () => {
    const make = (name: string, changes: Partial<typeof run>) => ({ ...run, stalled: [], name, ...changes });
    const runs = [
      make('finished', { status: 'finished' }),
      make('failed', { status: 'failed' }),
      make('old', { lastSeen: 1 }),
      make('running', {}),
      make('stalled', { stalled: ['x'] }),
      make('lost', { status: 'lost' }),
    ];
    expect(byUrgency(runs).map(({ name }) => name)).toEqual([
      'lost',
      'stalled',
      'running',
      'old',
      'failed',
      'finished',
    ]);
  });

  it('asks for no more columns than a table has', () => {
    const counters = Array.from({ length: 60 }, (_, i) => ({
      column: `counters.c${i}`,
      counter: `c${i}`,
      runs: i,
      totals: 0,
    }));
    const names = countersOf({ runs: 1, config: [], summary: [], tags: [], counters, truncated: false });
    expect(names[0]).toBe('c59');
    expect(healthColumns(names).length).toBeLessThan(98);
    expect(healthColumns(['my."x"'])).toEqual(expect.arrayContaining(['totals.my."x"', 'rates.my."x"']));
  });
});

describe('refused reports', () => {
  const item = (reason: string, at: number) =>
    ({
      at,
      producer: 'p',
      refusal: { block: 0, row: 0, counter: 'c', step: 1, last_step: 2, tags: [], reason, detail: '' },
    }) as unknown as RefusedPage['refused'][number];

  it('stand together by reason, the newest first, with what to do', () => {
    const groups = refusedGroups([
      item('tag_repeated', 9),
      item('step_decreased', 8),
      item('tag_repeated', 7),
    ]);
    expect(groups.map(({ reason, items }) => [reason, items.map(({ at }) => at)])).toEqual([
      ['tag_repeated', [9, 7]],
      ['step_decreased', [8]],
    ]);
    for (const { title, advice } of groups) expect(Math.min(title.length, advice.length)).toBeGreaterThan(10);
    expect(refusedGroups([item('of_tomorrow', 1)])[0]).toMatchObject({ title: 'of_tomorrow', advice: '' });
  });
});

describe('attempts', () => {
  type Counter = RunView['counters'][string];
  const attempt = (start: number, last_step: number | null, limit: number | null) =>
    ({ number: 1, start, last_step, limit }) as Counter['attempts'][number];
  const counter = (total: number | null, ...attempts: Counter['attempts']) =>
    ({ attempts, total }) as unknown as Counter;

  it('lie where their steps are, what was superseded apart', () => {
    const found = stretches(
      counter(1_000, attempt(0, 400, 250), attempt(250, 300, null), attempt(301, null, null)),
    );
    expect(found.map(({ left, seen, hidden }) => [left, seen, hidden])).toEqual([
      [0, 0.25, expect.closeTo(0.15)],
      [0.25, 0.05, 0],
      [0.301, 0, 0],
    ]);
  });

  it('stay on the line, whatever their steps', () => {
    for (const [start, last, limit] of [
      [5, 5, null],
      [0, 9, 0],
      [3, 9, 1],
      [0, 9, 99],
    ] as const) {
      const [one] = stretches(counter(null, attempt(start, last, limit)));
      expect(one!.left + one!.seen + one!.hidden).toBeLessThanOrEqual(1 + 1e-12);
      expect(Math.min(one!.left, one!.seen, one!.hidden)).toBeGreaterThanOrEqual(0);
    }
  });
});

describe('alerts', () => {
  const page = (run: string, ...times: number[]) =>
    ({
      run,
      alerts: times.map((at) => ({ title: 't', text: '', producer: 'p', received_at: at })),
    }) as unknown as AlertsPage;

  it('of many runs are one list, newest first, those asked for again in place of what was', () => {
    const first = newest([], [page('a', 5, 3), page('b', 4)], 10);
    expect(first.map(({ run, alert }) => [run, alert.received_at])).toEqual([['a', 5], ['b', 4], ['a', 3]]); // prettier-ignore
    const second = newest(first, [page('a', 6, 5, 3)], 3);
    expect(second.map(({ alert }) => alert.received_at)).toEqual([6, 5, 4]);
    expect(second[1]!.key).toBe(first[0]!.key);
  });

  it('that are alike in all have keys of their own, which stay when another comes', () => {
    const [before, after] = [alertsOf(page('a', 5, 5)), alertsOf(page('a', 5, 5, 5))];
    expect(new Set(after.map(({ key }) => key)).size).toBe(3);
    expect(after.slice(1).map(({ key }) => key)).toEqual(before.map(({ key }) => key));
  });
});

describe('keys', () => {
  const key = (key: string, more = {}) => ({ key, ctrlKey: false, metaKey: false, altKey: false, ...more });

  it('act alone, and not while somebody types', () => {
    expect(actionOf(key('j'), false)).toBe('next');
    expect(actionOf(key('3'), false)).toBe('region');
    for (const silent of [
      key('j', { ctrlKey: true }),
      key('p', { metaKey: true }),
      key('k', { altKey: true }),
    ])
      expect(actionOf(silent, false)).toBeNull();
    expect(actionOf(key('j'), true)).toBeNull();
    expect(actionOf(key('Esc'), false)).toBeNull();
  });

  it('mean one thing each', () => {
    const all = BINDINGS.filter(({ action }) => action).flatMap(({ keys }) => keys);
    expect(new Set(all).size).toBe(all.length);
  });

  it('lead from one to the next, and end at the ends', () => {
    expect([neighbour(3, -1, 1), neighbour(3, 0, 1), neighbour(3, 2, 1), neighbour(3, 0, -1)]).toEqual([
      0, 1, 2, 0,
    ]);
    expect(neighbour(0, -1, 1)).toBeNull();
  });
});
