/** The picture and the table of the wings in `docs/architecture.md`, made from the folders and from the comment of each room's `index.ts`. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

interface Wing {
  readonly name: string
  readonly what: string
  readonly fill: string
  readonly line: string
}

/** From the top down: a wing imports those below it. Identity and credentials do not import each other. */
const WINGS: readonly (Wing | readonly [Wing, Wing])[] = [
  { name: 'cli', what: 'commands', fill: '#fae8ff', line: '#a21caf' },
  { name: 'dev', what: 'a world for authors', fill: '#ffe4e6', line: '#e11d48' },
  { name: 'daemon', what: 'builds all parts', fill: '#ede9fe', line: '#7c3aed' },
  { name: 'listeners', what: 'know HTTP and wires', fill: '#e0f2fe', line: '#0284c7' },
  { name: 'flows', what: 'the lines', fill: '#e0e7ff', line: '#6366f1' },
  [
    { name: 'identity', what: 'who may do what', fill: '#dcfce7', line: '#16a34a' },
    { name: 'credentials', what: 'obtain and keep', fill: '#fef3c7', line: '#d97706' },
  ],
  { name: 'foundation', what: 'state, keys, network', fill: '#e2e8f0', line: '#475569' },
]
const WIDTH = 980
const ROW = { columns: 5, width: 140, height: 34, gap: 8 }

/** The rooms of a wing: the folders with an `index.ts`. A wing that is one room has none. */
const roomsOf = (root: string, wing: string): string[] =>
  readdirSync(join(root, 'src', wing), { withFileTypes: true })
    .filter((each) => each.isDirectory() && existsSync(join(root, 'src', wing, each.name, 'index.ts')))
    .map(({ name }) => name)
    .sort()

/** What the comment at the head of a room's `index.ts` says, in one line. */
const commentOf = (root: string, room: string): string => {
  const comment = /^\/\*\*([^]*?)\*\//.exec(readFileSync(join(root, 'src', room, 'index.ts'), 'utf8'))?.[1]
  if (comment === undefined) throw new Error(`src/${room}/index.ts begins with no comment`)
  // Indented lines are an example of code.
  return comment
    .replaceAll(/^ *\* {3,}.*$/gm, '')
    .replaceAll(/^ *\* ?/gm, '')
    .replaceAll(/\s+/g, ' ')
    .trim()
}

/** The rows of the table of rooms. */
export const roomRows = (root: string): string[][] =>
  [...WINGS.flat().map(({ name }) => name), 'config', 'oauth', 'openapi', 'sdk'].flatMap((wing) => {
    const rooms = roomsOf(root, wing).map((room) => `${wing}/${room}`)
    const own = existsSync(join(root, 'src', wing, 'index.ts')) ? [wing] : []
    return [...own, ...rooms].map((room) => [`\`src/${room}/\``, commentOf(root, room)])
  })

const text = (x: number, y: number, words: string, more = ''): string =>
  `<text x="${x}" y="${y}" fill="#0f172a" font-size="13"${more === '' ? '' : ` ${more}`}>${words}</text>`

/** One wing with its rooms. @param columns rooms in a row. @returns its drawing and its height */
const drawWing = (
  { name, what, fill, line }: Wing,
  rooms: readonly string[],
  place: { x: number; y: number; width: number; columns: number },
): { drawing: string; height: number } => {
  const { x, y, width, columns } = place
  const rows = Math.ceil(rooms.length / columns)
  const height = Math.max(1, rows) * (ROW.height + ROW.gap) + ROW.gap + 4
  const left = x + 168
  const boxes = rooms.map((room, at) => {
    const [boxX, boxY] = [
      left + (at % columns) * (ROW.width + ROW.gap),
      y + ROW.gap + 2 + Math.floor(at / columns) * (ROW.height + ROW.gap),
    ]
    return `<rect x="${boxX}" y="${boxY}" width="${ROW.width}" height="${ROW.height}" rx="6" fill="#ffffff" stroke="${line}"/>${text(boxX + ROW.width / 2, boxY + 22, room, 'text-anchor="middle"')}`
  })
  return {
    drawing: [
      `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="8" fill="${fill}" stroke="${line}"/>`,
      text(x + 16, y + 24, `src/${name}`, 'font-weight="600"'),
      text(x + 16, y + 41, what, 'opacity="0.7"'),
      ...boxes,
    ].join('\n'),
    height,
  }
}

/** The wings of `src/` as an SVG picture. */
export const wingsPicture = (root: string): string => {
  const drawings: string[] = []
  let y = 16
  for (const level of WINGS) {
    const side = 'name' in level ? [level] : level
    const width = (WIDTH - 32 - (side.length - 1) * 12) / side.length
    const columns = Math.max(1, Math.floor((width - 170) / (ROW.width + ROW.gap)))
    const drawn = side.map((wing, at) =>
      drawWing(wing, roomsOf(root, wing.name), { x: 16 + at * (width + 12), y, width, columns }),
    )
    drawings.push(...drawn.map(({ drawing }) => drawing))
    y += Math.max(...drawn.map(({ height }) => height)) + 12
  }
  drawings.push(
    text(
      32,
      y + 12,
      'Imported by every wing: src/config, src/oauth, src/openapi, src/errors.ts, src/clock.ts',
      'opacity="0.7"',
    ),
    text(32, y + 32, 'Imports nothing of the daemon: src/sdk, which MCP servers use', 'opacity="0.7"'),
  )
  const height = y + 48
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="t" font-family="system-ui, sans-serif">
<title id="t">The wings of src/ and their rooms; imports run downwards only</title>
<rect width="${WIDTH}" height="${height}" rx="10" fill="#f8fafc"/>
${drawings.join('\n')}
</svg>
`
}
