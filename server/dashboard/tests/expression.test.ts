import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { partsOf, quoted, quotedIfNeeded, splitList, tokens } from '../src/lib/expression';

const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 20 });

describe('tokens', () => {
  it('are words, texts and signs, each with its place', () => {
    const found = tokens('config.lr<=0.01 and last."my tag" != "a b"');
    expect(found.map(({ kind, source }) => [kind, source])).toEqual([
      ['word', 'config.lr'],
      ['sign', '<='],
      ['word', '0.01'],
      ['word', 'and'],
      ['word', 'last."my tag"'],
      ['sign', '!='],
      ['text', '"a b"'],
    ]);
  });

  it('cover everything but space, whatever is typed', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (source) => {
        let at = 0;
        for (const token of tokens(source)) {
          expect(source.slice(at, token.start).trim()).toBe('');
          expect(token.source).toBe(source.slice(token.start, token.end));
          expect(token.end).toBeGreaterThan(token.start);
          at = token.end;
        }
        expect(source.slice(at).trim()).toBe('');
      }),
    );
  });

  it('say whether a quote is still open', () => {
    expect(tokens('name = "x')[2]!.open).toBe(true);
    expect(tokens('name = "x"')[2]!.open).toBe(false);
    expect(tokens('name = "x\\"')[2]!.open).toBe(true);
  });
});

describe('quotes', () => {
  it('hold any text, and give it back', () => {
    fc.assert(
      fc.property(fc.array(text, { minLength: 1, maxLength: 4 }), (parts) => {
        const written = parts.map((part) => quotedIfNeeded(part, '.')).join('.');
        expect(tokens(written)).toHaveLength(1);
        expect(partsOf(written)).toEqual(parts);
      }),
    );
  });

  it('are used only where they are needed', () => {
    expect(quotedIfNeeded('val/loss')).toBe('val/loss');
    expect(quotedIfNeeded('a.b')).toBe('a.b');
    expect(quotedIfNeeded('a.b', '.')).toBe('"a.b"');
    expect(quotedIfNeeded('')).toBe('""');
    expect(quoted('a "b" \\')).toBe('"a \\"b\\" \\\\"');
  });
});

describe('a list', () => {
  it('is split at commas, but for those in parentheses and quotes', () => {
    expect(splitList('-last."a,b", at_min(test/acc, val/loss),name')).toEqual([
      '-last."a,b"',
      'at_min(test/acc, val/loss)',
      'name',
    ]);
    expect(splitList(' , ,')).toEqual([]);
  });
});
