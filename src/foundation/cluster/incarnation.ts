import { equalInConstantTime, type Fingerprint, Secret } from '#foundation/crypto'
import type { Position } from '#foundation/store'

/**
 * The ids of the processes of a node, `node/start.random.proof`. The proof needs the key of the installation: who can
 * only write the
 * store can add a row with the name of a node, and cannot make it an incarnation that displaces the one that runs.
 */
export interface Incarnations {
  /** @param at when the process starts (ms since the epoch) @param drawn a text that was never drawn before */
  idOf(at: number, drawn: string): string
  /**
   * When this incarnation of the node has started; undefined where the id was not made with the key of the
   * installation.
   */
  startOf(id: string): number | undefined
  /** Proves that this incarnation has applied all changes up to this one. */
  prove(id: string, applied: Position): string
  /** Whether an acknowledgement is that of the incarnation itself. */
  isProven(id: string, applied: Position, proof: string | null): boolean
}

const ID = /^([^/]+)\/(\d+)\.([\w-]+)\.([\w-]+)$/

export const createIncarnations = (node: string, fingerprint: Fingerprint): Incarnations => {
  // No token has a line break in it, so no fingerprint of one is a proof.
  const keyed = (label: string, parts: readonly unknown[]): string =>
    fingerprint(new Secret(`${label}\n${JSON.stringify(parts)}`))
  const prove = (id: string, { number, token }: Position): string => keyed('acknowledgement', [id, number, token])
  return {
    idOf: (at, drawn) => `${node}/${at}.${drawn}.${keyed('incarnation', [node, String(at), drawn])}`,
    startOf(id) {
      // To the letter: what could be added to an id that was made with the key would be another id of the same proof.
      const [, of, start, drawn, proof] = ID.exec(id) ?? []
      if (of !== node || proof === undefined) return undefined
      return equalInConstantTime(proof, keyed('incarnation', [node, start, drawn])) ? Number(start) : undefined
    },
    prove,
    isProven: (id, applied, proof) => proof !== null && equalInConstantTime(proof, prove(id, applied)),
  }
}
