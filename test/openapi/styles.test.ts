/** The values of OpenAPI's own table: https://spec.openapis.org/oas/v3.2.0.html#style-examples */
import { describe, expect, it } from 'vitest'
import { buildRequest, type Operation, type Parameter, type Place, type Style } from '../../src/openapi/index.ts'

const anOperation = (parameters: readonly Parameter[], path: string): Operation => ({
  id: 'op',
  method: 'GET',
  origin: 'https://api.example.com',
  path,
  parameters,
  answers: [],
  wrapsAnswer: false,
  limits: { timeout: 1000, maxBytes: 1000 },
})

const values = {
  empty: '',
  string: 'blue',
  array: ['blue', 'black', 'brown'],
  object: { R: 100, G: 200, B: 150 },
} as const

type Row = readonly [Place, Style, boolean, ...(string | null)[]]

/** Place, style, explode; then the empty text, a text, an array and an object. null: the specification has no value. */
const rows: readonly Row[] = [
  ['path', 'matrix', false, null, ';color=blue', ';color=blue,black,brown', ';color=R,100,G,200,B,150'],
  ['path', 'matrix', true, null, ';color=blue', ';color=blue;color=black;color=brown', ';R=100;G=200;B=150'],
  ['path', 'label', false, null, '.blue', '.blue,black,brown', '.R,100,G,200,B,150'],
  ['path', 'label', true, null, '.blue', '.blue.black.brown', '.R=100.G=200.B=150'],
  ['path', 'simple', false, null, 'blue', 'blue,black,brown', 'R,100,G,200,B,150'],
  ['path', 'simple', true, null, 'blue', 'blue,black,brown', 'R=100,G=200,B=150'],
  ['header', 'simple', false, '', 'blue', 'blue,black,brown', 'R,100,G,200,B,150'],
  ['header', 'simple', true, '', 'blue', 'blue,black,brown', 'R=100,G=200,B=150'],
  ['query', 'form', false, 'color=', 'color=blue', 'color=blue,black,brown', 'color=R,100,G,200,B,150'],
  ['query', 'form', true, 'color=', 'color=blue', 'color=blue&color=black&color=brown', 'R=100&G=200&B=150'],
  ['query', 'spaceDelimited', false, null, null, 'color=blue%20black%20brown', 'color=R%20100%20G%20200%20B%20150'],
  ['query', 'pipeDelimited', false, null, null, 'color=blue%7Cblack%7Cbrown', 'color=R%7C100%7CG%7C200%7CB%7C150'],
  ['query', 'deepObject', true, null, null, null, 'color%5BR%5D=100&color%5BG%5D=200&color%5BB%5D=150'],
  ['cookie', 'form', false, 'color=', 'color=blue', 'color=blue,black,brown', 'color=R,100,G,200,B,150'],
  ['cookie', 'form', true, 'color=', 'color=blue', 'color=blue&color=black&color=brown', 'R=100&G=200&B=150'],
  ['cookie', 'cookie', false, 'color=', 'color=blue', 'color=blue,black,brown', 'color=R,100,G,200,B,150'],
  ['cookie', 'cookie', true, 'color=', 'color=blue', 'color=blue; color=black; color=brown', 'R=100; G=200; B=150'],
]

const sent = (place: Place, style: Style, explode: boolean, value: unknown): string => {
  const parameter: Parameter = {
    name: 'color',
    in: place,
    value: { from: 'argument', argument: 'color' },
    required: false,
    style,
    explode,
    allowReserved: false,
  }
  const request = buildRequest(anOperation([parameter], place === 'path' ? '/{color}' : '/'), { color: value })
  if (place === 'path') return request.path.slice(1)
  if (place === 'query') return request.query.slice(1)
  return request.headers[request.headers.indexOf(place === 'cookie' ? 'cookie' : 'color') + 1]!
}

describe('the styles of parameters', () => {
  for (const [place, style, explode, ...expected] of rows)
    Object.entries(values).forEach(([kind, value], at) => {
      const text = expected[at]
      if (text === null || text === undefined) return
      it(`${style}, explode ${explode}, in ${place}: ${kind}`, () => {
        expect(sent(place, style, explode, value)).toBe(text)
      })
    })
})
