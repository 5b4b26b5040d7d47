import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DEFAULT,
  formatView,
  isSelected,
  parseView,
  REGIONS,
  SHOWS,
  SIZES,
  SPREADS,
  withRun,
  type View,
} from '../src/lib/view';

// No lone surrogates: a URL can't hold them, and no name does.
const text = fc.string({ unit: 'binary', maxLength: 30 });
const name = fc.string({ unit: 'binary', minLength: 1, maxLength: 30 });
const names = fc.uniqueArray(name, { maxLength: 5 });
const colour = fc
  .integer({ min: 0, max: 0xffffff })
  .map((value) => `#${value.toString(16).padStart(6, '0')}`);
const zoom = fc
  .tuple(
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
  )
  .filter(([from, to]) => from < to);
const table = <T>(keys: fc.Arbitrary<string>, values: fc.Arbitrary<T>) =>
  fc
    .array(fc.tuple(keys, values), { maxLength: 4 })
    .map((entries) => Object.fromEntries(entries) as Record<string, T>);

const views: fc.Arbitrary<View> = fc.record({
  region: fc.constantFrom(...REGIONS),
  project: fc.option(text),
  filter: text,
  sort: text,
  columns: names,
  archived: fc.boolean(),
  rowGroup: fc.option(text),
  table: fc.record({
    wide: fc.boolean(),
    panel: fc.option(fc.integer({ min: 240, max: 3000 })),
    widths: table(name, fc.integer({ min: 48, max: 1200 })),
    folded: names,
    ranks: names,
  }),
  open: fc.option(text),
  compare: fc.boolean(),
  selection: fc.oneof(
    fc.record({ kind: fc.constant('some' as const), runs: names }),
    fc.record({ kind: fc.constant('all' as const), but: names }),
  ),
  x: name,
  log: fc.boolean(),
  smoothing: fc.double({ min: 0, max: 1, noNaN: true }).map(Math.abs),
  outliers: fc.boolean(),
  group: fc.option(text),
  spread: fc.constantFrom(...SPREADS),
  tags: fc.constantFrom('', 'loss', '^val/(acc|loss)$', '\\d+'),
  pinned: names,
  folded: names,
  size: fc.constantFrom(...SIZES),
  zoom: table(text, zoom),
  ownZoom: table(text, zoom),
  height: table(text, zoom),
  alone: fc.boolean(),
  full: fc.option(text),
  ghosts: fc.boolean(),
  colours: table(name, colour),
  sweep: fc.record({
    plot: fc.constantFrom('parallel' as const, 'scatter' as const),
    axes: names,
    metric: fc.option(text),
    x: fc.option(text),
    y: fc.option(text),
    tint: fc.option(text),
    log: names,
    ranges: table(text, zoom),
    chosen: fc.boolean(),
  }),
  health: fc.record({ show: fc.constantFrom(...SHOWS), open: names }),
});

describe('a view', () => {
  it('comes back from its URL as it was', () => {
    fc.assert(
      fc.property(views, (view) => {
        expect(parseView(formatView(view))).toEqual({ view: normal(view), notices: [] });
      }),
      { numRuns: 300 },
    );
  });

  it('as one begins with it leaves the URL empty', () => {
    expect(formatView(DEFAULT)).toBe('');
    expect(parseView('')).toEqual({ view: DEFAULT, notices: [] });
  });

  it('says in the URL only what is not as in the beginning, in words', () => {
    const view: View = {
      ...DEFAULT,
      project: 'mnist',
      log: true,
      selection: { kind: 'some', runs: ['mnist/a b'] },
    };
    expect(formatView(view)).toBe('?project=mnist&run=mnist%2Fa+b&y=log');
  });

  it('can have no columns at all', () => {
    const view = { ...DEFAULT, columns: [] };
    expect(parseView(formatView(view)).view.columns).toEqual([]);
  });
});

describe('a broken URL', () => {
  it.each([
    ['smooth=7', 'smooth'],
    ['smooth=', 'smooth'],
    ['y=cubic', 'y'],
    ['tags=(', 'tags'],
    ['zoom=9~1~loss', 'zoom'],
    ['zoom=a~b~loss', 'zoom'],
    ['ownzoom=1~1~loss', 'ownzoom'],
    ['height=1~0~loss', 'height'],
    ['size=huge', 'size'],
    ['colour=red~try1', 'colour'],
    ['view=nowhere', 'view'],
    ['panel=10', 'panel'],
    ['table=narrow', 'table'],
    ['width=12~age', 'width'],
    ['width=wide~age', 'width'],
    ['project=a&project=b', 'project'],
    ['all=1&run=a', 'run'],
    ['utm_source=mail', 'utm_source'],
    [`filter=${'x'.repeat(5000)}`, 'filter'],
  ])('%s is ignored, with a notice', (query, said) => {
    const { view, notices } = parseView(query);
    expect(notices).toHaveLength(1);
    expect(notices[0]).toContain(`“${said}”`);
    expect(view).toEqual(said === 'run' ? { ...DEFAULT, selection: { kind: 'all', but: [] } } : DEFAULT);
  });

  it('never throws, and what is understood stays', () => {
    fc.assert(
      fc.property(fc.webQueryParameters(), (query) => {
        expect(parseView(`${query}&x=epoch`).view.x).toMatch(/^(epoch|step)$/);
      }),
    );
    expect(parseView('smooth=7&x=epoch').view.x).toBe('epoch');
  });
});

describe('a selection', () => {
  it('takes runs in and leaves them out', () => {
    fc.assert(
      fc.property(views, name, fc.boolean(), ({ selection }, run, selected) => {
        const next = withRun(selection, run, selected);
        expect(isSelected(next, run)).toBe(selected);
        expect(next.kind).toBe(selection.kind);
        const others = selection.kind === 'some' ? selection.runs : selection.but;
        for (const other of others)
          if (other !== run) expect(isSelected(next, other)).toBe(isSelected(selection, other));
      }),
    );
  });
});

/** A URL does not tell −0 from 0. */
function normal(view: View): View {
  const plain = (zooms: View['zoom']) =>
    Object.fromEntries(Object.entries(zooms).map(([of, [from, to]]) => [of, [from + 0, to + 0]] as const));
  return {
    ...view,
    zoom: plain(view.zoom),
    ownZoom: plain(view.ownZoom),
    height: plain(view.height),
    sweep: { ...view.sweep, ranges: plain(view.sweep.ranges) },
  };
}
