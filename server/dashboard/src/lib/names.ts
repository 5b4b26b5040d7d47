/** Names of runs as they travel in URLs, and as they are shown where there is little room. */

/** Names in parts that each fit into a URL: bounded in characters as they are encoded, and in number. */
export function urlParts(names: readonly string[], charsMax = 6_000, namesMax = 200): string[][] {
  const parts: string[][] = [];
  let chars = Infinity;
  for (const name of names) {
    const size = encodeURIComponent(name).length + '&run='.length;
    const part = parts.at(-1);
    if (!part || part.length === namesMax || chars + size > charsMax) {
      parts.push([name]);
      chars = size;
    } else {
      part.push(name);
      chars += size;
    }
  }
  return parts;
}

/** Characters at the end of a name that stay when it is cut: runs of a sweep begin alike. */
const TAIL = 10;
/** Of a name no longer than this the beginning is all that is worth keeping. */
const SHORT = 16;

/** A name in two: what may be cut, and the end, which stays; a grapheme is never torn. */
export function ends(name: string): [head: string, tail: string] {
  const characters = [...new Intl.Segmenter().segment(name)].map(({ segment }) => segment);
  if (characters.length <= SHORT) return [name, ''];
  return [characters.slice(0, -TAIL).join(''), characters.slice(-TAIL).join('')];
}
