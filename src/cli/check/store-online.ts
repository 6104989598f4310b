import { type Problem, type Settings, SETTINGS_FILE } from '#config'
import { postgresOptions, type Surroundings } from '#daemon/foundation'
import { DeputyError } from '#errors'
import { postgresDurability } from '#foundation/store'

/** Checks the shared store: a problem when it does not answer, a warning when a fail-over loses commits. */
export const storeProblems = async (
  settings: Settings,
  around: Surroundings,
): Promise<{ readonly problems: readonly Problem[]; readonly warnings: readonly Problem[] }> => {
  const about = (message: string, fix: string): Problem => ({ file: SETTINGS_FILE, line: 1, message, fix })
  try {
    const postgres = await postgresOptions(settings, around)
    if (postgres === undefined) return { problems: [], warnings: [] }
    const { state, sentence } = await postgresDurability(postgres)
    return {
      problems: [],
      warnings: ['alone', 'synchronous'].includes(state)
        ? []
        : [about(`store.postgres: ${sentence}`, 'docs/cluster.md says what to run, and what each choice loses.')],
    }
  } catch (error) {
    if (!(error instanceof DeputyError)) throw error
    return { problems: [about(error.message, error.next)], warnings: [] }
  }
}
