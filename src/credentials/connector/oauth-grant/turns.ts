/** Runs work on a grant when the work on it that came before is over: what is read in a turn is what is written to. */
export type InTurn = <T>(grant: string, work: () => Promise<T>) => Promise<T>

/** Turns of one process. Between processes the version of the stored grant decides. */
export const createTurns = (): InTurn => {
  const turns = new Map<string, Promise<unknown>>()
  return (grant, work) => {
    const turn = (turns.get(grant) ?? Promise.resolve()).then(work, work)
    turns.set(grant, turn)
    const over = (): void => {
      if (turns.get(grant) === turn) turns.delete(grant)
    }
    turn.then(over, over)
    return turn
  }
}
