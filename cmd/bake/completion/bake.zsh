#compdef bake
# zsh completion for bake: what can follow is bake's to say.
_bake() {
	local -a found
	found=("${(@f)$("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -n "${found[1]}" ]]; then
		compadd -- "${found[@]}"
	else
		_files
	fi
}
# Autoloaded from fpath it is the function, sourced it defines one.
if [[ "${funcstack[1]}" = _bake ]]; then
	_bake "$@"
else
	compdef _bake bake
fi
