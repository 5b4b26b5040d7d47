/** What watchdogs found wrong with runs, and is not over yet. */
import type { IncidentsPage } from '../api/client';
import type { RunAlert } from './alerts';

export type Incident = IncidentsPage['incidents'][number];

/** Kinds in words, for signs and their titles. */
const KINDS: Readonly<Record<string, string>> = {
  lost: 'no sign of life',
  stalled: 'no counter moves',
  unmoved: 'a counter is reported, but does not move',
  nonfinite: 'values are not finite',
  bounds: 'values are out of bounds',
  refused: 'reports are refused',
  failed: 'it failed',
};

/** A kind in words. */
export function kindText(kind: string): string {
  return (Object.hasOwn(KINDS, kind) && KINDS[kind]) || kind;
}

/** What there is to add to a status that people see: that a run is lost, or has failed, it says itself. */
export function besides(status: unknown, kinds: readonly string[]): string[] {
  return kinds.filter((kind) => kind !== status);
}

/** Alerts but for those that told of what is open still, which stands beside them. */
export function withoutOpen(alerts: readonly RunAlert[], open: readonly RunAlert[]): readonly RunAlert[] {
  const told = new Set(open.map(({ run, alert }) => JSON.stringify([run, alert.title])));
  return alerts.filter(
    ({ run, alert }) => alert.producer !== 'watchdog' || !told.has(JSON.stringify([run, alert.title])),
  );
}

/** An incident in the form of an alert, as which it was told. */
export function asAlert(incident: Incident): RunAlert {
  const { run, kind, subject, since, level, title, text } = incident;
  const alert = { title, text, level, wall_time: since, received_at: since, at: {}, producer: 'watchdog' };
  return { run, key: JSON.stringify([run, kind, subject, since]), alert };
}
