import type { Compilable, CompiledQuery } from 'kysely'

/** Stands for a member of the input while the statement is compiled. */
class Placeholder {
  readonly name: string

  constructor(name: string) {
    this.name = name
  }
}

/**
 * A statement that is compiled at its first use, for those that are on the way of every answer: Kysely takes longer to
 * compile one than SQLite to run it.
 * @param build uses each member of its input as a value, and looks at none
 */
export const compileOnce = <Input extends object, Output>(
  build: (input: Input) => Compilable<Output>,
): ((input: Input) => CompiledQuery<Output>) => {
  let compiled: CompiledQuery<Output> | undefined
  return (input) => {
    compiled ??= build(new Proxy({}, { get: (_, name) => new Placeholder(String(name)) }) as Input).compile()
    const valueOf = (parameter: unknown): unknown =>
      parameter instanceof Placeholder ? input[parameter.name as keyof Input] : parameter
    return { ...compiled, parameters: compiled.parameters.map(valueOf) }
  }
}
