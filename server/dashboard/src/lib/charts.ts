/** Which charts there are for the tags of the selected runs, in which order, and along which axis each is drawn. */

/** Charts that stand together: what their tags have before the first slash. */
export interface ChartGroup {
  readonly name: string;
  readonly tags: readonly string[];
}

/** What tags of a counter of their own are counted on, as a SummaryWriter's are. */
const OWN_COUNTER = 'tag:';

/**
 * Tags by group, in their order, those without a group last; only tags that the search finds, and none that is pinned.
 */
export function chartGroups(
  tags: readonly string[],
  search: string,
  pinned: readonly string[],
): ChartGroup[] {
  const finds = new RegExp(search, 'iu');
  const apart = new Set(pinned);
  const groups = new Map<string, string[]>();
  for (const tag of tags) {
    if (apart.has(tag) || !finds.test(tag)) continue;
    const name = groupOf(tag);
    const group = groups.get(name);
    if (group) group.push(tag);
    else groups.set(name, [tag]);
  }
  const named = [...groups].map(([name, tags]) => ({ name, tags }));
  return [...named.filter(({ name }) => name), ...named.filter(({ name }) => !name)];
}

/** The group of a tag; '' if it has no slash. */
export function groupOf(tag: string): string {
  const slash = tag.indexOf('/');
  return slash < 0 ? '' : tag.slice(0, slash);
}

/** Why a text is no regular expression, as a sentence; null: it is one. */
export function searchProblem(search: string): string | null {
  try {
    new RegExp(search, 'iu');
    return null;
  } catch (error) {
    const said = error instanceof Error ? error.message : '';
    return `No regular expression: ${said.slice(said.lastIndexOf(':') + 1).trim() || 'it can’t be read'}.`;
  }
}

/**
 * What a chart's x is: charts of the same axis share cursor and zoom. By `step` each tag is drawn along its own counter,
 * so that is its axis; where runs disagree, that of the most runs.
 */
export function axisOf(x: string, counters: Readonly<Record<string, number>>): string {
  if (x !== 'step') return x;
  const [most] = Object.entries(counters).sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  if (!most) return 'step';
  return most[0].startsWith(OWN_COUNTER) ? 'step' : most[0];
}

/** Counters that x can be, of the counters that there are: not those that only one tag has. */
export function axesOf(counters: Iterable<string>): string[] {
  const names = new Set([...counters].filter((name) => !name.startsWith(OWN_COUNTER)));
  return [...names].sort();
}

/** Whether an axis is a counter's: whole numbers. */
export function isCounted(axis: string): boolean {
  return axis !== 'relative' && axis !== 'wall_time';
}

/** How many charts of a least width stand side by side. */
export function columnsOf(width: number, least: number, gap: number): number {
  return Math.max(1, Math.floor((width + gap) / (least + gap)));
}

/** Tags as rows of so many. */
export function rowsOf(tags: readonly string[], columns: number): string[][] {
  return Array.from({ length: Math.ceil(tags.length / columns) }, (_, row) =>
    tags.slice(row * columns, (row + 1) * columns),
  );
}
