/** What holds for all values, names and documents. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DeputyError } from '../../src/errors.ts'
import {
  type ApiRequest,
  buildRequest,
  candidates,
  type Operation,
  type Parameter,
  type Place,
  type Style,
  upgradeDocument,
} from '../../src/openapi/index.ts'
import { anApi, openDocument } from '../support/openapi-documents.ts'
import { aDocument } from '../support/openapi-tools.ts'

const STYLES: Readonly<Partial<Record<Place, readonly Style[]>>> = {
  path: ['simple', 'label', 'matrix'],
  query: ['form', 'spaceDelimited', 'pipeDelimited', 'deepObject'],
  header: ['simple'],
  cookie: ['form', 'cookie'],
}

const texts = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 12 }),
  fc.string({
    unit: fc.constantFrom(
      '.',
      '/',
      '\\',
      '%',
      '2',
      'f',
      'e',
      '5',
      'c',
      ';',
      '&',
      '=',
      '?',
      '#',
      '+',
      ',',
      '\r',
      '\n',
      '\0',
      'a',
      ' ',
    ),
    maxLength: 12,
  }),
)
const primitives = fc.oneof(texts, fc.integer(), fc.boolean(), fc.double({ noNaN: true }))
const values = fc.oneof(
  primitives,
  fc.array(primitives, { maxLength: 4 }),
  fc.dictionary(texts, primitives, { maxKeys: 3 }),
)

const aParameter = (place: Place, style: Style, explode: boolean, allowReserved: boolean): Parameter => ({
  name: place === 'header' ? 'x-value' : 'value',
  in: place,
  value: { from: 'argument', argument: 'value' },
  required: false,
  style,
  explode,
  allowReserved,
})

const anOperation = (parameter: Parameter): Operation => ({
  id: 'op',
  method: 'GET',
  origin: 'https://api.example.com',
  path: parameter.in === 'path' ? '/a/x{value}/b' : '/a/x/b',
  parameters: [parameter],
  answers: [],
  wrapsAnswer: false,
  limits: { timeout: 1000, maxBytes: 1000 },
})

const parametersIn = (place: Place): fc.Arbitrary<Parameter> =>
  fc
    .record({ style: fc.constantFrom(...STYLES[place]!), explode: fc.boolean(), reserved: fc.boolean() })
    .map(({ style, explode, reserved }) => aParameter(place, style, explode, reserved))

/** Undefined where the value is refused, in a sentence. */
const requestOf = (parameter: Parameter, value: unknown): ApiRequest | undefined => {
  try {
    return buildRequest(anOperation(parameter), { value })
  } catch (error) {
    expect(error).toBeInstanceOf(DeputyError)
    return undefined
  }
}

const runs = { numRuns: 1500 }

describe('requests', () => {
  it('promise 1: a path parameter changes neither the number of segments nor where they lead', () => {
    fc.assert(
      fc.property(parametersIn('path'), values, (parameter, value) => {
        const path = requestOf(parameter, value)?.path
        if (path === undefined) return
        expect(path.split('/').length).toBe(4)
        const url = new URL(`https://api.example.com${path}`)
        expect(url.pathname).toBe(path)
        expect(decodeURIComponent(path).split(/[/\\]/).length).toBe(4)
      }),
      runs,
    )
  })

  it('promise 1: a query value adds no parameter, and arrives as it was', () => {
    fc.assert(
      fc.property(
        parametersIn('query'),
        fc.oneof(primitives, fc.array(primitives, { minLength: 1, maxLength: 4 })),
        (parameter, value) => {
          const query = requestOf(parameter, value)?.query
          if (query === undefined) return
          const read = new URL(`https://api.example.com/${query}`).searchParams
          expect([...new Set(read.keys())]).toEqual(['value'])
          expect(new URL(`https://api.example.com/${query}`).hash).toBe('')
          if (typeof value === 'string') expect(read.getAll('value')).toEqual([value])
          if (Array.isArray(value) && parameter.explode && parameter.style === 'form')
            expect(read.getAll('value')).toEqual(value.map(String))
        },
      ),
      runs,
    )
  })

  it('threat 27: no header has a control character, and no value adds a header', () => {
    fc.assert(
      fc.property(fc.oneof(parametersIn('header'), parametersIn('cookie')), values, (parameter, value) => {
        const headers = requestOf(parameter, value)?.headers
        if (headers === undefined) return
        expect(headers.every((each) => /^[\x20-\x7e]*$/.test(each))).toBe(true)
        const names = headers.filter((_, at) => at % 2 === 0)
        expect(['accept', 'accept,x-value', 'accept,cookie']).toContain(names.join(','))
      }),
      runs,
    )
  })
})

/** Paths of all parts of a value. */
const partsOf = (value: unknown, path: readonly string[] = []): string[][] =>
  typeof value === 'object' && value !== null
    ? Object.entries(value).flatMap(([key, each]) => [[...path, key], ...partsOf(each, [...path, key])])
    : []

const JUNK: readonly unknown[] = [
  null,
  true,
  -1,
  '',
  [],
  {},
  [null],
  { a: 1 },
  { $ref: 5 },
  { $ref: '#/paths' },
  { $ref: '#/components' },
  { $ref: '#/nowhere' },
  { type: {} },
  ['a', 'b'],
  '__proto__',
]

describe('documents', () => {
  it('promise 9: with anything in any place become tools, or say in a sentence why not', async () => {
    const { root } = await openDocument('scalar-galaxy.yaml')
    const parts = partsOf(root)
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ path: fc.constantFrom(...parts), value: fc.constantFrom(...JUNK) }), {
          minLength: 1,
          maxLength: 3,
        }),
        async (changes) => {
          const changed = structuredClone(root) as Record<string, unknown>
          for (const { path, value } of changes) {
            const holder = path
              .slice(0, -1)
              .reduce<unknown>((at, step) => (at as Record<string, unknown> | undefined)?.[step], changed)
            if (typeof holder === 'object' && holder !== null)
              (holder as Record<string, unknown>)[path.at(-1)!] = structuredClone(value)
          }
          try {
            const all = candidates(await upgradeDocument(changed, 'x'), anApi({ base_url: 'https://api.example.com' }))
            for (const { tool } of all) if (tool !== undefined) structuredClone(tool)
          } catch (error) {
            expect(['DocumentError', 'OperationError']).toContain((error as Error).name)
          }
        },
      ),
      { numRuns: 200 },
    )
  })
})

const pathItems = fc.uniqueArray(
  fc.record({
    path: fc.string({ unit: fc.constantFrom('a', 'b', '-', '_', 'x'), minLength: 1, maxLength: 5 }),
    id: fc.option(fc.string({ unit: fc.constantFrom('a', 'A', '_', '.', '#', ' ', 'ü', '-'), maxLength: 80 }), {
      nil: undefined,
    }),
  }),
  { selector: ({ path }) => path, maxLength: 12 },
)

describe('names', () => {
  it('are the same in any order of the document, different from each other, and 1 to 64 characters', async () => {
    const namesOf = async (
      items: readonly { path: string; id: string | undefined }[],
    ): Promise<Map<string, string>> => {
      const paths = Object.fromEntries(
        items.map(({ path, id }) => [`/${path}`, { get: id === undefined ? {} : { operationId: id } }]),
      )
      const all = candidates(await upgradeDocument(aDocument(paths), 'x'), anApi())
      return new Map(all.map(({ path, tool }) => [path, tool!.name]))
    }
    await fc.assert(
      fc.asyncProperty(
        pathItems,
        fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
        async (items, random) => {
          const names = await namesOf(items)
          const shuffled = items.map((item) => ({ item, key: random.next().value! })).sort((a, b) => a.key - b.key)
          expect(await namesOf(shuffled.map(({ item }) => item))).toEqual(names)
          expect(new Set(names.values()).size).toBe(items.length)
          for (const name of names.values()) expect(name).toMatch(/^[A-Za-z0-9_-]{1,64}$/)
        },
      ),
      { numRuns: 200 },
    )
  })
})
