/** The pieces of a filter, a sort or a list of columns in the language of GET /runs, as far as the page takes them apart. */

/** word: a name or number, with what of it is quoted. text: quoted as a whole. sign: an operator, parenthesis, comma. */
export interface Token {
  readonly kind: 'word' | 'text' | 'sign';
  /** As it is written. */
  readonly source: string;
  readonly start: number;
  readonly end: number;
  /** Whether a quote in it is never closed: it goes up to the end. */
  readonly open: boolean;
}

const SIGN = /<=|>=|==|!=|<>|!~|[<>=~(),]/y;
const BARE = /[^\s()<>=!~,"']+/y;

/** All pieces; what means nothing is a sign of its own, so that nothing is lost. */
export function tokens(source: string): Token[] {
  const found: Token[] = [];
  for (let at = behindSpace(source, 0); at < source.length; at = behindSpace(source, found.at(-1)!.end)) {
    const sign = matchAt(SIGN, source, at);
    if (sign) found.push({ kind: 'sign', source: sign, start: at, end: at + sign.length, open: false });
    else found.push(wordAt(source, at));
  }
  return found;
}

/** The items of a list with commas between them; those inside parentheses belong to an item. */
export function splitList(source: string): string[] {
  const items: string[] = [];
  let [start, depth] = [0, 0];
  for (const token of tokens(source)) {
    if (token.kind !== 'sign') continue;
    if (token.source === '(') depth++;
    else if (token.source === ')') depth--;
    else if (token.source === ',' && depth === 0) {
      items.push(source.slice(start, token.start).trim());
      start = token.end;
    }
  }
  items.push(source.slice(start).trim());
  return items.filter((item) => item !== '');
}

/** A word's parts: split at dots, but for those in quotes, which are taken off. */
export function partsOf(word: string): string[] {
  const parts = [''];
  const add = (text: string) => (parts[parts.length - 1] += text);
  for (let at = 0; at < word.length;) {
    const mark = word[at]!;
    if (mark === '"' || mark === "'") {
      const [text, end] = quotedAt(word, at);
      add(text);
      at = end;
    } else {
      if (mark === '.') parts.push('');
      else add(mark);
      at++;
    }
  }
  return parts;
}

/** Text in quotes. */
export function quoted(text: string): string {
  return `"${text.replace(/[\\"]/g, '\\$&')}"`;
}

/** Text as it stands in a column: in quotes if it would end it, or holds the sign that parts are apart by. */
export function quotedIfNeeded(text: string, apart = ''): string {
  const bare = matchAt(BARE, text, 0) === text && text !== '' && !(apart && text.includes(apart));
  return bare ? text : quoted(text);
}

function wordAt(source: string, start: number): Token {
  let [at, pieces, quotes, open] = [start, 0, 0, false];
  for (; at < source.length; pieces++) {
    const bare = matchAt(BARE, source, at);
    if (bare) at += bare.length;
    else if (source[at] === '"' || source[at] === "'") {
      const [, end, closed] = quotedAt(source, at);
      [at, open] = [end, !closed];
      quotes++;
    } else break;
  }
  if (at === start) return { kind: 'sign', source: source[at]!, start, end: at + 1, open: false };
  const kind = pieces === 1 && quotes === 1 ? 'text' : 'word';
  return { kind, source: source.slice(start, at), start, end: at, open };
}

/** What stands between quotes, where it ends, and whether the quote is closed. */
function quotedAt(source: string, start: number): [text: string, end: number, closed: boolean] {
  let text = '';
  let at = start + 1;
  for (; at < source.length && source[at] !== source[start]; at++) {
    if (source[at] === '\\') at++;
    text += source[at] ?? '';
  }
  return [text, Math.min(at + 1, source.length), at < source.length];
}

function behindSpace(source: string, at: number): number {
  while (at < source.length && /\s/.test(source[at]!)) at++;
  return at;
}

function matchAt(pattern: RegExp, source: string, at: number): string {
  pattern.lastIndex = at;
  return pattern.exec(source)?.[0] ?? '';
}

/** A filter that finds what both find; '' finds all. */
export function both(one: string, other: string): string {
  if (!one.trim() || !other.trim()) return one.trim() ? one : other;
  return `(${one}) and (${other})`;
}
