import { type Fingerprint, Secret } from '#foundation/crypto'

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
}

export const createIncarnations = (node: string, fingerprint: Fingerprint): Incarnations => {
  const proofOf = (start: string, drawn: string): string =>
    // No token has a line break in it, so no fingerprint of one is a proof.
    fingerprint(new Secret(`incarnation\n${JSON.stringify([node, start, drawn])}`))
  return {
    idOf: (at, drawn) => `${node}/${at}.${drawn}.${proofOf(String(at), drawn)}`,
    startOf(id) {
      const [start = '', drawn = '', proof] = id.slice(node.length + 1).split('.')
      return id.startsWith(`${node}/`) && proof === proofOf(start, drawn) ? Number(start) : undefined
    },
  }
}
