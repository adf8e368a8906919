# fish completion for bake: what can follow is bake's to say.
function __bake_complete
	set -l words (commandline -opc) (commandline -ct)
	$words[1] complete -- $words[2..-1] 2>/dev/null
end
complete -c bake -f -n 'test -n "$(__bake_complete)"' -a '(__bake_complete)'
