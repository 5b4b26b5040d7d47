import { describe, expect, it } from 'vitest';
import { asAlert, besides, kindText, withoutOpen, type Incident } from '../src/lib/incidents';
import { byUrgency, namesIn, standingOf } from '../src/lib/health';

const incident: Incident = {
  run: 'a/b',
  kind: 'nonfinite',
  subject: 'loss',
  since: 100,
  level: 'error',
  title: 'loss is NaN',
  text: 'at step 3',
  told: true,
  times: 0,
};

describe('an incident', () => {
  it('looks like the alert as which it was told, and has a key of its own', () => {
    const { run, key, alert } = asAlert(incident);
    expect([run, alert.title, alert.text, alert.level, alert.wall_time]).toEqual([
      'a/b',
      'loss is NaN',
      'at step 3',
      'error',
      100,
    ]);
    const others = [{ subject: 'acc' }, { kind: 'bounds' }, { run: 'a/c' }, { since: 101 }];
    const keys = others.map((changes) => asAlert({ ...incident, ...changes }).key);
    expect(new Set([key, ...keys]).size).toBe(5);
    expect(asAlert({ ...incident, title: 'else' }).key).toBe(key);
  });

  it('is told beside a status unless the status says it', () => {
    expect(besides('running', ['nonfinite', 'refused'])).toEqual(['nonfinite', 'refused']);
    expect(besides('lost', ['lost', 'refused'])).toEqual(['refused']);
    expect(besides('failed', ['failed'])).toEqual([]);
    expect(kindText('nonfinite')).toBe('values are not finite');
    expect(kindText('of a newer service')).toBe('of a newer service');
    expect(kindText('constructor')).toBe('constructor');
  });

  it('is not told twice where it stands beside alerts', () => {
    const open = [asAlert(incident)];
    const other = asAlert({ ...incident, run: 'a/c' });
    const byJob = { ...open[0]!, alert: { ...open[0]!.alert, producer: 'job' } };
    expect(withoutOpen([open[0]!, other, byJob], open)).toEqual([other, byJob]);
    expect(withoutOpen([open[0]!], [])).toHaveLength(1);
  });

  it('brings its run forward, behind those that stall', () => {
    const make = (name: string, values: Record<string, unknown>) =>
      standingOf({ name, values: { status: 'running', last_seen: 1, ...values } }, []);
    const runs = [
      make('well', { last_seen: 9 }),
      make('bad', { incidents: ['nonfinite'] }),
      make('stalled', { stalled: ['step'] }),
      make('failed', { status: 'failed', incidents: ['failed'], last_seen: 9 }),
      make('lost', { status: 'lost', incidents: ['lost'] }),
    ];
    expect(byUrgency(runs).map(({ name }) => name)).toEqual(['lost', 'stalled', 'bad', 'well', 'failed']);
    expect(runs.map(({ incidents }) => incidents.length)).toEqual([0, 1, 0, 1, 1]);
    expect([namesIn(null), namesIn(['a', 1])]).toEqual([[], ['a', '1']]);
  });
});
