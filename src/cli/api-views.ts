import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Downstream, downstreamSchema, formatProblem, loadLocations, parseYamlFile, targetOf } from '#config'
import { didYouMean } from '#foundation/text'
import type { Candidate, Effects, Losses } from '#openapi'
import { CommandError, exit } from './terminal.ts'

export { targetOf }

/** The downstream of an API. @throws CommandError where there is none, or where its credential goes into no request */
export const downstreamIn = async (home: string, environment: string, id: string): Promise<Downstream> => {
  const locations = await loadLocations(home, 'downstreams', 'downstream', environment)
  const file = locations.get(id)
  if (file === undefined)
    throw new CommandError(
      exit.usage,
      `There is no downstream '${id}'. ${didYouMean(id, locations.keys())}`.trimEnd(),
      `Write downstreams/${id}.yaml with \`inject\`, as docs/proxy.md shows; deputy downstream list has those that exist.`,
    )
  const { values, problems } = parseYamlFile(file, await readFile(join(home, file), 'utf8'), downstreamSchema)
  const found = values.find(({ value }) => value.downstream === id)?.value
  if (found === undefined) throw new CommandError(exit.configuration, problems.map(formatProblem).join('\n'))
  if (found.inject === undefined)
    throw new CommandError(
      exit.failed,
      `${id} has no \`inject\`, so its credential goes into no request.`,
      `Add \`inject\` to ${file}; see docs/proxy.md.`,
    )
  return found
}

/** @throws CommandError for a tag that no operation has */
export const unknownTags = (tags: readonly string[], all: readonly Candidate[]): void => {
  const known = new Set(all.flatMap((each) => each.tags))
  const unknown = tags.find((tag) => !known.has(tag))
  if (unknown !== undefined)
    throw new CommandError(
      exit.usage,
      `No operation has the tag '${unknown}'. ${didYouMean(unknown, known)}`.trimEnd(),
      `The document has these tags: ${[...known].slice(0, 30).join(', ') || 'none'}.`,
    )
}

/** Effects in a word. */
export const effectWord = ({ readOnly, destructive, idempotent }: Effects): string =>
  readOnly ? 'reads' : `${destructive ? 'changes' : 'adds'}${idempotent ? ', repeatable' : ''}`

/** Of one, and of several. */
const LOSS_WORDS: Readonly<Record<keyof Losses, readonly [string, string]>> = {
  cycles: ['cycle cut', 'cycles cut'],
  cuts: ['deep part cut', 'deep parts cut'],
  patterns: ['pattern left to the API', 'patterns left to the API'],
  dangling: ['reference that leads nowhere', 'references that lead nowhere'],
}

/** What the schemas of an operation lost, in words. */
export const lossWords = (losses: Losses): string =>
  (Object.keys(LOSS_WORDS) as (keyof Losses)[])
    .filter((key) => losses[key] > 0)
    .map((key) => `${losses[key]} ${LOSS_WORDS[key][losses[key] === 1 ? 0 : 1]}`)
    .join(', ')

/** An operation as a row. @param chosen the name of the tool that it is, if it is one */
export const candidateRow = (
  { operation, method, path, tags, tool, losses, refusal }: Candidate,
  chosen: string | undefined,
) => ({
  tool: chosen ?? tool?.name ?? null,
  is_tool: chosen !== undefined,
  operation,
  route: `${method} ${path}`,
  tags,
  effects: tool === undefined ? null : effectWord(tool.effects),
  scopes: tool?.scopes ?? [],
  note: refusal === undefined ? lossWords(losses) || null : `cannot be a tool: ${refusal.message} ${refusal.fix}`,
})
